import java.io.IOException;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.*;
import net.razorvine.pyro.*;
import net.razorvine.pyro.serializer.SerpentSerializer;
import net.razorvine.serpent.ComplexNumber;

/**
 * Calls the object "example.java" of pyrolite_test.go.  Its arguments are the host and the port of a name server.  It prints a line for each
 * check, "ok NAME" or "FAILED NAME why", and at last "done COUNT", with tabs.
 */
public class Client {
    interface Check { void run() throws Exception; }

    static NameServerProxy names;
    static PyroProxy object;
    static int count;

    public static void main(String[] args) throws Exception {
        names = NameServerProxy.locateNS(args[0], Integer.parseInt(args[1]));
        object = new PyroProxy(names.lookup("example.java"));
        nameServer();
        toGo();
        fromGo();
        calls();
        exceptions();
        object.close();
        names.close();
        System.out.println("done\t" + count);
    }

    static void nameServer() {
        check("lookup with tags", () -> {
            Object[] found = names.lookup("example.java", true);
            equal(new PyroURI("PYRO:java@" + object.hostname + ":" + object.port), found[0]);
            equal(Set.of("lang:go"), strings(found[1]));
        });
        check("register, tag, list, remove", () -> {
            PyroURI uri = new PyroURI("PYRO:x@localhost:4711");
            names.register("java.x", uri, false, new String[] {"a", "b"});
            equal(Set.of("java.x"), names.list("java.", null).keySet());
            equal(Set.of("java.x"), names.list(null, "java\\..").keySet());
            equal(Set.of("java.x"), names.yplookup(new String[] {"a", "b"}, null).keySet());
            names.set_metadata("java.x", new HashSet<>(List.of("c")));
            equal(Set.of(), names.yplookup(new String[] {"a"}, null).keySet());
            equal(Set.of("java.x"), names.yplookup(null, new String[] {"a", "c"}).keySet());
            equal(uri, names.lookup("java.x"));
            equal(1, names.remove("java.x", null, null));
            equal(0, names.remove("java.x", null, null));
        });
        check("register safely", () -> {
            PyroURI uri = new PyroURI("PYRO:x@localhost:4711");
            names.register("java.y", uri, true);
            raises("Pyro5.errors.NamingError", "name already registered: java.y", () -> names.register("java.y", uri, true));
            names.remove("java.y", null, null);
        });
        check("unknown name", () -> raises("Pyro5.errors.NamingError", "unknown name: java.nobody", () -> names.lookup("java.nobody")));
        check("register nonsense", () -> raises("Pyro5.errors.PyroError", "invalid uri", () -> names.call("register", "java.z", "nonsense")));
    }

    /** What Go makes of Java's values. */
    static void toGo() throws IOException {
        arrives("null", null, "nil");
        arrives("boolean", true, "bool true");
        arrives("int", 42, "int64 42");
        arrives("long", Long.MIN_VALUE, "int64 -9223372036854775808");
        arrives("big integer", new BigInteger("1180591620717411303424"), "*big.Int 1180591620717411303424");
        arrives("double", 0.1, "float64 0.1");
        arrives("whole double", 3.0, "float64 3");
        arrives("float", 0.5f, "float64 0.5");
        arrives("infinity", Double.NEGATIVE_INFINITY, "float64 -Inf");
        arrives("not a number", Double.NaN, "float64 NaN");
        arrives("complex number", new ComplexNumber(1, -2), "complex128 (1-2i)");
        arrives("big decimal", new BigDecimal("1.50"), "string 1.50");
        arrives("string", "h\u00e9 \u20ac \ud83d\ude00 '\" \\ \n", "string h\u00e9 \u20ac \ud83d\ude00 '\" \\ \n");
        arrives("bytes", new byte[] {0, 1, -1}, "map[string]interface {} map[data:AAH/ encoding:base64]"); // as in Python
        check("to Go: bytes where bytes are wanted", () -> equal(3, object.call("size", new byte[] {0, 1, -1})));
        arrives("array", new Object[] {1, "x"}, "core.Tuple [1 x]");
        arrives("array of strings", new String[] {"a", "b"}, "core.Tuple [a b]");
        arrives("list", List.of(1, List.of(2)), "[]interface {} [1 [2]]");
        arrives("set", new HashSet<>(List.of(7)), "core.Set [7]");
        arrives("map", new HashMap<>(Map.of("k", 1)), "map[string]interface {} map[k:1]");
        arrives("UUID", UUID.fromString("00112233-4455-6677-8899-aabbccddeeff"), "string 00112233-4455-6677-8899-aabbccddeeff");
        arrives("URI", new PyroURI("PYRO:o@h:1"), "core.URI PYRO:o@h:1");
        arrives("proxy", new PyroProxy("h", 1, "o"), "core.ProxyState PYRO:o@h:1");
        arrives("exception", new PyroException("oops"), "*core.RemoteError PyroError: oops");
    }

    /** What Java gets of Go's values. */
    static void fromGo() {
        Map<String, Object> want = new LinkedHashMap<>();
        want.put("nil", null);
        want.put("bool", true);
        want.put("int", 42);
        want.put("int64", Long.MAX_VALUE);
        want.put("big", new BigInteger("-1180591620717411303424"));
        want.put("float", 0.1);
        want.put("whole", 3.0);
        want.put("inf", Double.POSITIVE_INFINITY);
        want.put("complex", new ComplexNumber(1, -2));
        want.put("string", "h\u00e9 \u20ac \ud83d\ude00 '\" \\ \n");
        want.put("list", List.of(1, List.of("x")));
        want.put("set", Set.of("a", "b"));
        want.put("map", Map.of("k", 1));
        want.put("struct", Map.of("name", "Irmen", "age", 50));
        want.put("uri", new PyroURI("PYRO:o@h:1"));
        want.forEach((kind, value) -> check("from Go: " + kind, () -> equal(value, object.call("value", kind))));
        check("from Go: tuple", () -> equal(List.of(1, "x"), Arrays.asList((Object[]) object.call("value", "tuple"))));
        check("from Go: bytes", () -> equal(List.of((byte) 0, (byte) 1, (byte) -1), boxed(SerpentSerializer.toBytes(object.call("value", "bytes")))));
        check("from Go: an object as a proxy", () -> {
            PyroProxy again = (PyroProxy) object.call("value", "proxy");
            equal("java", again.objectid);
            again.pyroHandshake = "hello"; // Pyrolite expects another order of what a proxy consists of
            equal(5, again.call("add", 2, 3));
            again.close();
        });
        check("from Go: an exception as a value", () -> {
            PyroException e = (PyroException) object.call("value", "exception");
            equal("builtins.ValueError", e.pythonExceptionType);
            equal("[builtins.ValueError] oops", e.getMessage());
        });
    }

    static void calls() {
        check("metadata", () -> {
            object.call("add", 1, 2);
            equal(true, object.pyroMethods.containsAll(List.of("add", "describe", "fail", "note")));
            equal(Set.of("greeting"), object.pyroAttrs);
        });
        check("attributes", () -> {
            equal("hello", object.getattr("greeting"));
            object.setattr("greeting", "bonjour");
            equal("bonjour", object.getattr("greeting"));
        });
        check("oneway", () -> {
            object.call_oneway("note", "sent without waiting");
            equal("sent without waiting", object.call("noted"));
        });
        check("a method that is oneway in Go, called with an answer", () -> {
            equal(null, object.call("note", "sent again"));
            equal("sent again", object.call("noted"));
        });
        check("annotations and correlation id", () -> {
            Map<String, String> got = new HashMap<>();
            PyroProxy annotating = new PyroProxy(object.hostname, object.port, object.objectid) {
                @Override public SortedMap<String, byte[]> annotations() {
                    SortedMap<String, byte[]> all = super.annotations();
                    all.put("JAVA", "from Java".getBytes());
                    return all;
                }
                @Override public void responseAnnotations(SortedMap<String, byte[]> all, int type) {
                    all.forEach((id, data) -> got.put(id, new String(data)));
                }
            };
            annotating.correlation_id = UUID.fromString("00112233-4455-6677-8899-aabbccddeeff");
            equal("from Java 00112233445566778899aabbccddeeff", annotating.call("annotated"));
            equal("from Go", got.get("GGGO"));
            annotating.close();
        });
        check("a refused handshake", () -> {
            PyroProxy stranger = new PyroProxy(object.hostname, object.port, object.objectid);
            stranger.pyroHandshake = "let me in";
            try {
                stranger.call("add", 1, 2);
            } catch (PyroException e) {
                equal(true, e.getMessage().contains("no strangers"));
                return;
            }
            throw new Exception("the call went through");
        });
        check("a large value", () -> {
            String large = "x".repeat(1 << 20);
            equal(large, object.call("echo", large));
        });
        check("indented serpent", () -> {
            Config.SERPENT_INDENT = true;
            try {
                equal(Map.of("k", List.of(1, 2)), object.call("echo", Map.of("k", List.of(1, 2))));
            } finally {
                Config.SERPENT_INDENT = false;
            }
        });
        check("again after the connection is gone", () -> {
            object.close();
            equal(3, object.call("add", 1, 2));
        });
    }

    static void exceptions() {
        check("an exception of a class", () -> raises("builtins.ValueError", "no good", () -> object.call("fail", "builtins.ValueError", "no good")));
        check("a Go error", () -> raises("builtins.RuntimeError", "plain", () -> object.call("fail", "", "plain")));
        check("a panic", () -> raises("builtins.RuntimeError", "panic: oops", () -> object.call("panics")));
        check("wrong arguments", () -> raises("builtins.TypeError", "missing 1 required positional argument", () -> object.call("add", 1)));
        check("a value that does not fit", () -> raises("builtins.TypeError", "want int", () -> object.call("add", 1, "x")));
        check("an unknown method", () -> {
            object.pyroMethods.add("nope");
            raises("builtins.AttributeError", "has no attribute 'nope'", () -> object.call("nope"));
        });
        check("an unknown object", () -> {
            try {
                new PyroProxy(object.hostname, object.port, "nobody").call("add", 1, 2);
            } catch (PyroException e) {
                equal(true, e.getMessage().contains("unknown object"));
                return;
            }
            throw new Exception("the call went through");
        });
        check("the traceback", () -> {
            try {
                object.call("fail", "builtins.ValueError", "traced");
            } catch (PyroException e) {
                equal(true, e._pyroTraceback.startsWith("Traceback (most recent call last):\n"));
                equal(true, e._pyroTraceback.contains("pyrolite_test.go"));
                equal(true, e._pyroTraceback.endsWith("ValueError: traced\n"));
                return;
            }
            throw new Exception("the call went through");
        });
    }

    static void arrives(String kind, Object value, String want) {
        check("to Go: " + kind, () -> equal(want, object.call("describe", value)));
        if (value instanceof Collection || value instanceof Map || value instanceof Number && !(value instanceof BigDecimal) && !(value instanceof Float)) {
            check("to Go and back: " + kind, () -> equal(value, object.call("echo", value)));
        }
    }

    static void check(String name, Check body) {
        count++;
        try {
            body.run();
            System.out.println("ok\t" + name);
        } catch (Throwable e) {
            System.out.println("FAILED\t" + name + "\t" + e.toString().replaceAll("\\s+", " "));
        }
    }

    static void equal(Object want, Object got) throws Exception {
        if (!Objects.equals(want, got)) {
            throw new Exception("got " + text(got) + ", want " + text(want));
        }
    }

    static void raises(String type, String message, Check body) throws Exception {
        try {
            body.run();
        } catch (PyroException e) {
            if (!type.equals(e.pythonExceptionType) || !e.getMessage().contains(message)) {
                throw new Exception("got " + e.pythonExceptionType + " \"" + e.getMessage() + "\", want " + type + " \"" + message + "\"");
            }
            return;
        }
        throw new Exception("no exception, want " + type);
    }

    static String text(Object value) { return value == null ? "null" : value.getClass().getName() + " " + value; }

    static Set<Object> strings(Object collection) {
        return new HashSet<>(collection instanceof Object[] ? Arrays.asList((Object[]) collection) : (Collection<?>) collection);
    }

    static List<Byte> boxed(byte[] bytes) {
        List<Byte> list = new ArrayList<>();
        for (byte b : bytes) list.add(b);
        return list;
    }
}
