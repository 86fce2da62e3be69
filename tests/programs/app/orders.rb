def load(count)
  Array.new(count) { |i| "order #{i}" * 3 }
end

def index(orders)
  orders.each_with_index.to_h { |order, i| [i, order] }
end

orders = load(100_000)
puts index(orders).size
