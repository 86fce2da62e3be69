local function load(count)
  local orders = {}
  for i = 1, count do orders[i] = { id = i, name = 'order ' .. i } end
  return orders
end
print(#load(100000))
