import java.util.*;

public class Orders {
    static List<byte[]> load(int count) {
        List<byte[]> all = new ArrayList<>();
        for (int i = 0; i < count; i++)
            all.add(new byte[100_000]);
        return all;
    }

    static java.nio.ByteBuffer buffer() {
        return java.nio.ByteBuffer.allocateDirect(40_000_000);
    }

    public static void main(String[] arguments) {
        List<byte[]> all = load(600);
        java.nio.ByteBuffer direct = buffer();
        System.out.println(all.size() + direct.capacity());
    }
}
