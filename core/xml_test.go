package core

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"
)

func FuzzXML(f *testing.F) {
	for _, doc := range xmlDocuments {
		f.Add([]byte(doc))
	}
	fuzzSerializer(f, xmlSerializer{})
}

var xmlDocuments = []string{
	"<none/>", "<int>5</int>", " <list><int>5</int>\n<str>a&lt;&#10;</str></list> ", "<dict><str>a</str><true/><int>1</int><false/></dict>",
	"<str encoding=\"base64\">AA==</str>", "<bytes>AA==</bytes>", "<complex>1 -Inf</complex>", "<set><tuple/></set>", "<frozenset></frozenset>",
	"<datetime>2024-01-02T03:04:05.000000006+01:00</datetime>", "<date>2024-01-02</date>", "<ellipsis/>", "<!-- x --><float>NaN</float><!-- y -->",
	"<dict><str>__class__</str><str>a.B</str><str>x</str><int>1</int></dict>", "<str><![CDATA[<x>]]></str>",
	"<tuple><str>o</str><str>m</str><list><int>1</int></list><none/></tuple>", "<tuple><str>o</str><str>m</str><list/><dict/></tuple>",
}

// TestXMLGolden writes and reads every value of the golden vectors.
func TestXMLGolden(t *testing.T) {
	t.Parallel()
	for name, v := range goldenValues() {
		data, err := xmlSerializer{}.AppendValue([]byte("before"), v)
		if err != nil || !bytes.HasPrefix(data, []byte("before<")) {
			t.Errorf("%s: got %q, %v", name, data, err)
			continue
		}
		got, err := xmlSerializer{}.ParseValue(data[len("before"):])
		if g, w := show(got), show(asRead("xml", v)); err != nil || g != w {
			t.Errorf("%s: %q:\n got %s, %v\nwant %s", name, data, abbreviate(g), err, abbreviate(w))
		}
	}
	for name, r := range goldenRequests() {
		data, err := xmlSerializer{}.AppendRequest(nil, r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := xmlSerializer{}.ParseRequest(data)
		if g, w := showRequest(got), showRequest(r); err != nil || g != w {
			t.Errorf("%s: %q: got %s, %v, want %s", name, data, g, err, w)
		}
	}
}

func TestXMLText(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", 3600)
	when := time.Date(2024, 1, 2, 3, 4, 5, 6, zone)
	tests := []struct {
		value any
		want  string
	}{
		{nil, "<none/>"}, {true, "<true/>"}, {false, "<false/>"}, {5, "<int>5</int>"}, {1.0, "<float>1</float>"},
		{mustInt("1180591620717411303424"), "<int>1180591620717411303424</int>"}, {(*big.Int)(nil), "<none/>"}, {[]byte(nil), "<none/>"},
		{map[string]any(nil), "<none/>"}, {1 + 2i, "<complex>1 2</complex>"}, {"a<&>\"'", "<str>a&lt;&amp;&gt;&#34;&#39;</str>"},
		{"\t\r\n é\ufffd\U0010ffff", "<str>&#x9;&#xD;&#xA; é\ufffd\U0010ffff</str>"},
		{"\x00", `<str encoding="base64">AA==</str>`}, {"\ufffe", `<str encoding="base64">77++</str>`}, {[]byte("x"), "<bytes>eA==</bytes>"},
		{when, "<datetime>2024-01-02T03:04:05.000000006+01:00</datetime>"}, {when.In(time.FixedZone("", 61)), "<datetime>2024-01-02T02:04:05.000000006Z</datetime>"},
		{Date{2024, 1, 2}, "<date>2024-01-02</date>"}, {Dict{{1, Set{Tuple{}}}}, "<dict><int>1</int><set><tuple></tuple></set></dict>"},
	}
	for _, tt := range tests {
		data, err := xmlSerializer{}.AppendValue(nil, tt.value)
		if err != nil || string(data) != tt.want {
			t.Errorf("%#v: got %s, %v, want %s", tt.value, data, err, tt.want)
		}
	}
	if v, err := (xmlSerializer{}).ParseValue([]byte("<datetime>2024-01-02T03:04:05.000000006+01:00</datetime>")); err != nil || !v.(time.Time).Equal(when) {
		t.Errorf("got %v, %v, want %v", v, err, when)
	}
	if v, err := (xmlSerializer{}).ParseValue([]byte("<!-- c --><str>a<!-- c -->b<![CDATA[<c>]]>&#100;</str>\n")); err != nil || v != "ab<c>d" {
		t.Errorf("got %v, %v", v, err)
	}
}

func TestXMLRefused(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, data, want string }{
		{"nothing", "", "too early"}, {"cut", "<list><int>", "EOF"}, {"text", "x", "text between"}, {"two values", "<none/><none/>", "after the value"},
		{"text after", "<none/>x", "after the value"}, {"text in a list", "<list>x</list>", "text between"}, {"other end", "<list></tuple>", "closed by"},
		{"document type", "<!DOCTYPE a [<!ENTITY b \"c\">]><str>&b;</str>", "document types"}, {"entity", "<str>&b;</str>", "entity"},
		{"billion laughs", "<!DOCTYPE x [<!ENTITY a \"aa\"><!ENTITY b \"&a;&a;\">]><str>&b;</str>", "document types"},
		{"document type inside", "<list><!DOCTYPE a></list>", "document types"}, {"document type in text", "<str><!DOCTYPE a></str>", "document types"},
		{"instruction", "<?xml version=\"1.0\"?><none/>", "instructions"}, {"attribute", `<int x="1">1</int>`, "attributes"},
		{"other encoding", `<str encoding="hex">00</str>`, "attributes"}, {"encoded int", `<int encoding="base64">AA==</int>`, "attributes"},
		{"name space", `<x:int xmlns:x="y">1</x:int>`, "name space"}, {"unknown", "<object/>", "unknown element"}, {"other case", "<Int>1</Int>", "in element"},
		{"element in text", "<str><str/></str>", "in one that has text"}, {"text in none", "<none>x</none>", "text in element"},
		{"no int", "<int>x</int>", "no integer"}, {"no float", "<float>x</float>", "no number"}, {"half complex", "<complex>1</complex>", "no number"},
		{"no base64", "<bytes>!</bytes>", "base64"}, {"no base64 text", `<str encoding="base64">!</str>`, "base64"},
		{"no UTF-8 text", `<str encoding="base64">/w==</str>`, "UTF-8"}, {"no UTF-8", "<str>\xff</str>", "UTF-8"}, {"control", "<str>\x01</str>", "illegal character"},
		{"year 0", "<datetime>0000-01-01T00:00:00Z</datetime>", "no time"}, {"no date", "<date>2024-02-30</date>", "no date"},
		{"list as key", "<dict><list/><none/></dict>", "unhashable"}, {"list in a set", "<set><list/></set>", "unhashable"},
		{"key without a value", "<dict><none/></dict>", "without a value"}, {"deep", strings.Repeat("<list>", 1<<18), "deeper"},
		{"deep keys", strings.Repeat("<dict>", 1<<18), "deeper"}, {"unclosed text", "<str>" + strings.Repeat("<str>", 1<<18), "has text"},
		{"digits", "<int>" + strings.Repeat("9", 1<<20) + "</int>", "digits"}, {"no state", "<dict><str>__class__</str><str>Pyro5.core.URI</str></dict>", "tuple of 5"},
	}
	for _, tt := range tests {
		v, err := xmlSerializer{}.ParseValue([]byte(tt.data))
		if err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 300 {
			t.Errorf("%s: %.80q: got %v, %v, want %q", tt.name, tt.data, v, err, tt.want)
		}
	}
	for _, v := range []any{nestedList(201), make(chan int), "\xff", Set{[]any{}}, new(big.Int).Lsh(big.NewInt(1), 1e6),
		time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2024, 1, 1, 0, 0, 0, 0, time.FixedZone("", 25*3600)), Date{2024, 2, 30}, Dict{{[]any{}, nil}}} {
		if data, err := (xmlSerializer{}).AppendValue([]byte("before"), v); err == nil || string(data) != "before" {
			t.Errorf("%T: got %.100q, %v, want an error", v, data, err)
		}
	}
	if v, err := (xmlSerializer{}).ParseValue([]byte("<float>1e400</float>")); err != nil || v != math.Inf(1) {
		t.Errorf("1e400: got %v, %v", v, err)
	}
}

// TestXMLCalls has a daemon that accepts xml, and one that does not.
func TestXMLCalls(t *testing.T) {
	t.Parallel()
	_, d, p := serveAccount(t, DaemonOptions{AcceptXML: true}, ProxyOptions{Serializer: "xml"})
	value := Tuple{Set{int64(1)}, []byte("x"), "\x00", Dict{{int64(1), Date{2024, 1, 2}}}, regAccount{Owner: "o", Tags: []string{}}}
	var got any
	if err := p.Call(t.Context(), "echo", &got, value); err != nil || show(got) != show(value) {
		t.Errorf("got %s, %v, want %s", show(got), err, show(value))
	}
	var owner string
	if err := p.Attr(t.Context(), "owner", &owner); err != nil || owner != "irmen" {
		t.Errorf("attribute: got %q, %v", owner, err)
	}
	err := p.Call(t.Context(), "fail", nil, string(ValueError), "text")
	if e, ok := errors.AsType[*RemoteError](err); !ok || e.Class != ValueError || e.Text() != "text" {
		t.Errorf("got %v, want ValueError", err)
	}
	if plain := proxyFor(t, d.URI("account"), ProxyOptions{}); plain.Ping(t.Context()) != nil {
		t.Error("msgpack beside xml")
	}

	_, d, p = serveAccount(t, DaemonOptions{}, ProxyOptions{Serializer: "xml"})
	if err := p.Call(t.Context(), "echo", nil, 1); err == nil || !strings.Contains(err.Error(), errNoXML.Error()) {
		t.Errorf("daemon without AcceptXML: got %v, want %v", err, errNoXML)
	}
	raw := connectRaw(t, d, "account") // a request in xml after a handshake in another
	raw.send(header{typ: msgInvoke, serializer: xmlID, seq: 1}, nil, raw.value(xmlID, Tuple{"account", "ping", []any{}, nil}))
	raw.expectClosed()
}
