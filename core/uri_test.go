package core

import (
	"slices"
	"strings"
	"testing"
)

// spec: A1 A3
func TestParseURI(t *testing.T) {
	t.Parallel()
	object := func(id, host string, port int) URI { return URI{Protocol: "PYRO", Object: id, Host: host, Port: port} }
	for _, test := range []struct {
		in      string
		want    URI
		printed string // empty: as in
	}{
		{in: "PYRO:obj@host:1", want: object("obj", "host", 1)},
		{in: "pyro:obj@host:1", want: object("obj", "host", 1), printed: "PYRO:obj@host:1"},
		{in: "PYRO::@h:1", want: object(":", "h", 1)},
		{in: "PYRO:a@b@h:1", want: object("a", "b@h", 1)},
		{in: "PYRO:@@h:1", want: object("@", "h", 1)},
		{in: "PYRO:o@h o:1", want: object("o", "h o", 1)},
		{in: "PYRO:€@h:1", want: object("€", "h", 1)},
		{in: "PYRO:o@h:0", want: object("o", "h", 0)},
		{in: "PYRO:o@h:65535", want: object("o", "h", 65535)},
		{in: "PYRO:o@h:0012", want: object("o", "h", 12), printed: "PYRO:o@h:12"},
		{in: "PYRO:o@[::1]:9090", want: object("o", "::1", 9090)},
		{in: "PYRO:o@./u:/tmp/so ck", want: URI{Protocol: "PYRO", Object: "o", Socket: "/tmp/so ck"}},
		{in: "PYRO:o@./u:\x00abstract", want: URI{Protocol: "PYRO", Object: "o", Socket: "\x00abstract"}},
		{in: "PYRONAME:n", want: URI{Protocol: "PYRONAME", Object: "n"}},
		{in: "PYRONAME:n@h", want: URI{Protocol: "PYRONAME", Object: "n", Host: "h", Port: 9090}, printed: "PYRONAME:n@h:9090"},
		{in: "PYRONAME:n@h:", want: URI{Protocol: "PYRONAME", Object: "n", Host: "h", Port: 9090}, printed: "PYRONAME:n@h:9090"},
		{in: "PYRONAME:n@[::1]", want: URI{Protocol: "PYRONAME", Object: "n", Host: "::1", Port: 9090}, printed: "PYRONAME:n@[::1]:9090"},
		{in: "PYRONAME:n@", want: URI{Protocol: "PYRONAME", Object: "n@"}},
		{in: "PYRONAME:@h", want: URI{Protocol: "PYRONAME", Object: "@h"}},
		{in: "PYRONAME://n", want: URI{Protocol: "PYRONAME", Object: "//n"}},
		{in: "PYRONAME:n@./u:sock", want: URI{Protocol: "PYRONAME", Object: "n", Socket: "sock"}},
		{in: "PYROMETA:b,a,b@h", want: URI{Protocol: "PYROMETA", Object: "a,b", Host: "h", Port: 9090}, printed: "PYROMETA:a,b@h:9090"},
		{in: "PYROMETA:a", want: URI{Protocol: "PYROMETA", Object: "a"}},
	} {
		t.Run(test.in, func(t *testing.T) {
			t.Parallel()
			got, err := ParseURI(test.in)
			if err != nil || got != test.want {
				t.Fatalf("got %+v, %v, want %+v", got, err, test.want)
			}
			printed := test.printed
			if printed == "" {
				printed = test.in
			}
			if got.String() != printed {
				t.Errorf("printed %q, want %q", got, printed)
			}
		})
	}
}

// spec: A1 A4
func TestParseURIRejects(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                          "invalid uri",
		"PYRO":                      "invalid uri",
		"PYRO:":                     "invalid uri",
		"PYRO:o":                    "invalid uri",
		"PYRO:@h:1":                 "invalid uri",
		"PYRO:o@h":                  "invalid port in uri, port=None",
		"PYRO:o@h:":                 "invalid port in uri, port=None",
		"PYRO:o@h:x":                "invalid port in uri, port=x",
		"PYRO:o@h:1:2":              "invalid port in uri, port=1:2",
		"PYRO:o@h:-1":               "invalid port in uri, port=-1",
		"PYRO:o@h:65536":            "invalid port in uri, port=65536",
		"PYRO:o@h: 12":              "invalid port in uri, port= 12",
		"PYRO:o@h:1_0":              "invalid port in uri, port=1_0",
		"PYRO:o@:1":                 "invalid uri (location)",
		"PYRO:o b@h:1":              "invalid uri",
		"PYRO:o@h:1\n":              "invalid uri",
		"PYROMETA:a, b":             "invalid uri",
		"PYROMETA:,@h":              "invalid uri",
		"PYROLOC:o@h:1":             "invalid uri (protocol)",
		"PYRO1:o@h:1":               "invalid uri",
		"http://h:1/o":              "invalid uri",
		"PYRO:o@[[::1]]:1":          "invalid ipv6 address: enclosed in too many brackets",
		"PYRO:o@[fe80::1%eth0]:1":   "invalid ipv6 address: the part between brackets must be a numeric ipv6 address",
		"PYRO:o@[::1]x:1":           "invalid ipv6 address: the part between brackets must be a numeric ipv6 address",
		"PYRO:o@[1.2.3.4]:1":        "invalid ipv6 address: the part between brackets must be a numeric ipv6 address",
		"PYRO:o@./u:":               "invalid uri (location)",
		"PYRO:o@./u:/tmp/a:b":       "invalid uri (location)",
		"PYRONAME:n@./u:":           "invalid uri (location)",
		strings.Repeat("PYRO", 1e5): "invalid uri",
	} {
		got, err := ParseURI(in)
		e, ok := err.(*RemoteError)
		if !ok || e.Class != PyroError || e.Text() != want {
			t.Errorf("%.40q: got %v, %v, want PyroError: %s", in, got, err, want)
		}
	}
}

// spec: A1 O13
func TestURIAddress(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][2]string{
		"PYRO:o@h:1":            {"tcp", "h:1"},
		"PYRO:o@[::1]:1":        {"tcp", "[::1]:1"},
		"PYRO:o@./u:/tmp/s":     {"unix", "/tmp/s"},
		"PYRO:o@./u:\x00hidden": {"unix", "@hidden"},
	} {
		u, err := ParseURI(in)
		if err != nil {
			t.Fatal(err)
		}
		if network, address := u.Address(); network != want[0] || address != want[1] {
			t.Errorf("%q: got %s %s, want %v", in, network, address, want)
		}
	}
}

// spec: A1 A2 A3 A4
func TestParseReference(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in      string
		printed string // empty: as in
		uris    []string
	}{
		{in: "PYRO:bank@h1:9090,h2:9091", uris: []string{"PYRO:bank@h1:9090", "PYRO:bank@h2:9091"}},
		{in: " PYRO:bank@h1:1, h2:2 ", printed: "PYRO:bank@h1:1,h2:2", uris: []string{"PYRO:bank@h1:1", "PYRO:bank@h2:2"}},
		{in: "PYRO:bank@h1:1,h1:1", printed: "PYRO:bank@h1:1", uris: []string{"PYRO:bank@h1:1"}},
		{in: "pyro:o@h:1", printed: "PYRO:o@h:1", uris: []string{"PYRO:o@h:1"}},
		{in: "PYRO:o@[::1]:1,./u:/s", uris: []string{"PYRO:o@[::1]:1", "PYRO:o@./u:/s"}},
		{in: "PYRONAME:bank", uris: []string{"PYRONAME:bank"}},
		{in: "PYRONAME:bank@n1,n2:9091", printed: "PYRONAME:bank@n1:9090,n2:9091",
			uris: []string{"PYRONAME:bank@n1:9090", "PYRONAME:bank@n2:9091"}},
		{in: "PYROMETA:b,a@n1", printed: "PYROMETA:a,b@n1:9090", uris: []string{"PYROMETA:a,b@n1:9090"}},
		{in: "PYRO://h:1/guid", printed: "PYRO:guid@h:1", uris: []string{"PYRO:guid@h:1"}},
		{in: "pyroloc://h:1/name", printed: "PYRO:name@h:1", uris: []string{"PYRO:name@h:1"}},
		{in: "PyroLoc:name@h:1", printed: "PYRO:name@h:1", uris: []string{"PYRO:name@h:1"}},
		{in: "PYROLOC://h:1,g:2/name", printed: "PYRO:name@h:1,g:2", uris: []string{"PYRO:name@h:1", "PYRO:name@g:2"}},
		{in: "PYRONAME://bank", printed: "PYRONAME:bank", uris: []string{"PYRONAME:bank"}},
		{in: "PYRONAME://:Default.bank", printed: "PYRONAME::Default.bank", uris: []string{"PYRONAME::Default.bank"}},
		{in: "PYRONAME://ns/bank", printed: "PYRONAME:bank@ns:9090", uris: []string{"PYRONAME:bank@ns:9090"}},
		{in: "PYRONAME://ns:1/a/b", printed: "PYRONAME:a/b@ns:1", uris: []string{"PYRONAME:a/b@ns:1"}},
	} {
		t.Run(test.in, func(t *testing.T) {
			t.Parallel()
			r, err := ParseReference(test.in)
			if err != nil {
				t.Fatal(err)
			}
			printed := test.printed
			if printed == "" {
				printed = test.in
			}
			if r.String() != printed {
				t.Errorf("printed %q, want %q", r, printed)
			}
			var uris []string
			for _, u := range r.URIs() {
				uris = append(uris, u.String())
			}
			if !slices.Equal(uris, test.uris) {
				t.Errorf("got %q, want %q", uris, test.uris)
			}
		})
	}
}

func TestParseReferenceRejects(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"", "bank", "PYRO:bank", "PYRO:bank@h1:9090,", "PYRO:bank@h1:9090,h2", "PYRO://h:1", "PYRO://h:1/", "PYRO://h:1/a b",
		"PYRO://h:1/a@b", "PYRO:///x", "PYROLOC:x", "PYROLOC:x@h", "PYROLOC://h/x", "PYROMETA://x", "PYRONAME://", "PYRONAME://h///n", "PYROX://h:1/a",
	} {
		if r, err := ParseReference(in); err == nil {
			t.Errorf("%q: got %+v, want an error", in, r)
		}
	}
}

// TestReferenceByHand has a location that ParseReference would not leave there.
func TestReferenceByHand(t *testing.T) {
	t.Parallel()
	uris := Reference{Protocol: "PYRO", Object: "o", Locations: []string{"h:x"}}.URIs()
	if want := (URI{Protocol: "PYRO", Object: "o", Host: "h:x"}); len(uris) != 1 || uris[0] != want {
		t.Errorf("got %+v, want %+v", uris, want)
	}
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{"PYRO:a@b@h:1", "pyro:obj@host:1", "PYRONAME:n@[::1]", "PYROMETA:a,b@h", "PYRO:o@./u:/s", "PYRO::@h:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil || again != u {
			t.Errorf("%q: %+v is printed as %q, which is %+v, %v", s, u, u, again, err)
		}
	})
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"PYRO:a@h:1,g:2", "PYRONAME://ns:1/a/b", "PYROLOC://h:1/x", "PYROMETA:b,a@h,./u:s", "PYRO://[::1]:1/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || !again.equal(r) {
			t.Fatalf("%q: %+v is printed as %q, which is %+v, %v", s, r, r, again, err)
		}
		for _, u := range r.URIs() {
			if _, err := ParseURI(u.String()); err != nil && !strings.HasPrefix(u.Object, "//") {
				t.Errorf("%q: %q is no uri: %v", s, u, err)
			}
		}
	})
}
