#include <map>
#include <memory>
#include <string>
#include <vector>
#include <cstdio>

struct Order {
    std::string who;
    std::map<int, std::string> items;
};

__attribute__((noinline)) static std::vector<Order> load(int count)
{
    std::vector<Order> orders;
    for (int i = 0; i < count; i++) {
        Order order{std::string(100, 'x'), {}};
        for (int j = 0; j < 5; j++)
            order.items[j] = std::string(60, 'y');
        orders.push_back(order);
    }
    return orders;
}

struct alignas(64) Line {
    char bytes[64];
};

__attribute__((noinline)) static Line *lines(int count)
{
    return new Line[count];
}

int main()
{
    auto orders = load(4000);
    std::unique_ptr<Line[]> kept(lines(50000));
    std::printf("%zu\n", orders.size());
}
