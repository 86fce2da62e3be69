<?php
function load($count) {
    $orders = [];
    for ($i = 0; $i < $count; $i++)
        $orders[] = "order $i" . str_repeat('x', 60);
    return $orders;
}
echo count(load(200000)), "\n";
