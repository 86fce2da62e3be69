function load(count) {
  const orders = [];
  for (let i = 0; i < count; i++) orders.push({ id: i, name: 'order ' + i, tags: [i, i + 1] });
  return orders;
}

function buffers(count) {
  return Array.from({ length: count }, () => Buffer.alloc(1000000, 1));
}

const orders = load(200000);
const kept = buffers(30);
console.log(orders.length, kept.length);
