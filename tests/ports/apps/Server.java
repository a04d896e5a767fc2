// java Server.java PORT
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

public class Server {
    public static void main(String[] arguments) throws Exception {
        var address = new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0]));
        var server = HttpServer.create(address, 0);
        var me = ("pid " + ProcessHandle.current().pid() + "\n").getBytes();
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, me.length);
            exchange.getResponseBody().write(me);
            exchange.close();
        });
        server.start();
    }
}
