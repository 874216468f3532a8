package core

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// URI is Pyro's address of an object, a comparable value.  The wire forms are
//
//	PYRO:objectid@host:port   PYRO:objectid@./u:path   PYRONAME:name[@host[:port]]   PYROMETA:tag,tag[@host[:port]]
//
// (Pyro5 docs, "Name Server", "Object URIs").  [ParseURI] reads exactly these; [ParseReference] also reads what people type.
type URI struct {
	Protocol string // "PYRO", "PYRONAME" or "PYROMETA"
	Object   string // object id, name, or the tags sorted and joined by commas
	Socket   string // path of a unix socket, or empty
	Host     string // without brackets; empty for a PYRONAME or PYROMETA without a location
	Port     int
}

// DefaultPort is the TCP port of the name server.
const DefaultPort = 9090

// The protocols of a URI.
const (
	protocolObject = "PYRO"
	protocolName   = "PYRONAME"
	protocolMeta   = "PYROMETA"
	protocolLocal  = "PYROLOC" // of references alone
)

// unixPrefix begins the location of a unix socket.
const unixPrefix = "./u:"

// ParseURI parses a URI as Pyro5 does, apart from what Pyro5 reads by accident: a port has to be a number from 0 to 65535, a host must
// not be empty, and nothing may follow an IPv6 address but a port.  The error is a PyroError with Pyro5's text.
func ParseURI(s string) (URI, error) {
	protocol, object, location, err := splitURI(s)
	if err != nil {
		return URI{}, err
	}
	u := URI{Protocol: protocol, Object: object}
	defaultPort := DefaultPort
	switch protocol {
	case protocolObject:
		if location == "" {
			return URI{}, PyroError.New("invalid uri")
		}
		defaultPort = -1
	case protocolMeta:
		if u.Object = sortTags(object); u.Object == "" {
			return URI{}, PyroError.New("invalid uri")
		}
	case protocolName:
	default:
		return URI{}, PyroError.New("invalid uri (protocol)")
	}
	if location != "" {
		if err := u.parseLocation(location, defaultPort); err != nil {
			return URI{}, err
		}
	}
	return u, nil
}

// splitURI does what Pyro5's regular expression does:
//
//	(?P<protocol>[Pp][Yy][Rr][Oo][a-zA-Z]*):(?P<object>\S+?)(@(?P<location>.+))?$
//
// The object is the shortest run without blanks that leaves a location, or nothing, behind it; so it has at least one character.
func splitURI(s string) (protocol, object, location string, err error) {
	protocol, rest, ok := strings.Cut(s, ":")
	if !ok || len(protocol) < 4 || !strings.EqualFold(protocol[:4], protocolObject) || strings.IndexFunc(protocol, notLetter) >= 0 {
		return "", "", "", PyroError.New("invalid uri")
	}
	protocol = strings.ToUpper(protocol)
	if strings.ContainsRune(rest, '\n') {
		return "", "", "", PyroError.New("invalid uri")
	}
	for i, r := range rest {
		if r == '@' && i > 0 && i+1 < len(rest) {
			return protocol, rest[:i], rest[i+1:], nil
		}
		if unicode.IsSpace(r) {
			return "", "", "", PyroError.New("invalid uri")
		}
	}
	if rest == "" {
		return "", "", "", PyroError.New("invalid uri")
	}
	return protocol, rest, "", nil
}

func notLetter(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }

// sortTags puts the comma-separated tags into the order and form of [URI.Object].
func sortTags(s string) string {
	var tags []string
	for tag := range strings.SplitSeq(s, ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return strings.Join(slices.Compact(tags), ",")
}

// parseLocation sets Socket, or Host and Port; a negative default port means that one has to be given.
func (u *URI) parseLocation(s string, defaultPort int) error {
	if path, ok := strings.CutPrefix(s, unixPrefix); ok {
		if path == "" || strings.ContainsRune(path, ':') {
			return PyroError.New("invalid uri (location)")
		}
		u.Socket = path
		return nil
	}
	host, port, err := splitHost(s)
	if err != nil {
		return err
	}
	if port == "" {
		if defaultPort < 0 {
			return PyroError.New("invalid port in uri, port=None")
		}
		u.Host, u.Port = host, defaultPort
		return nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return PyroError.New("invalid port in uri, port=%s", port)
	}
	u.Host, u.Port = host, int(n)
	return nil
}

// splitHost splits "host", "host:port", "[v6]" and "[v6]:port".
func splitHost(s string) (host, port string, err error) {
	if !strings.HasPrefix(s, "[") {
		host, port, _ = strings.Cut(s, ":")
		if host == "" {
			return "", "", PyroError.New("invalid uri (location)")
		}
		return host, port, nil
	}
	if strings.HasPrefix(s, "[[") {
		return "", "", PyroError.New("invalid ipv6 address: enclosed in too many brackets")
	}
	host, rest, _ := strings.Cut(s[1:], "]")
	port, hasPort := strings.CutPrefix(rest, ":")
	addr, err := netip.ParseAddr(host)
	if err != nil || !addr.Is6() || addr.Zone() != "" || rest != "" && !hasPort {
		return "", "", PyroError.New("invalid ipv6 address: the part between brackets must be a numeric ipv6 address")
	}
	return host, port, nil
}

// String returns the URI as Pyro5 prints it; [ParseURI] reads it back.
func (u URI) String() string {
	if u == (URI{}) {
		return ""
	}
	s := u.Protocol + ":" + u.Object
	if location := u.location(); location != "" {
		s += "@" + location
	}
	return s
}

// location is the part behind the "@".
func (u URI) location() string {
	switch {
	case u.Socket != "":
		return unixPrefix + u.Socket
	case u.Host != "":
		return net.JoinHostPort(u.Host, strconv.Itoa(u.Port))
	}
	return ""
}

// Address returns what net.Dial takes: "tcp" and host:port, or "unix" and the path.
func (u URI) Address() (network, address string) {
	if u.Socket == "" {
		return "tcp", net.JoinHostPort(u.Host, strconv.Itoa(u.Port))
	}
	if name, ok := strings.CutPrefix(u.Socket, "\x00"); ok {
		return "unix", "@" + name // an abstract socket, as package net writes it
	}
	return "unix", u.Socket
}

// Reference is an object's address as people write it: like a URI, but with any number of locations.
//
//	PYRO:bank@h1:9090,h2:9090        an object group, without a name server
//	PYRONAME:bank@n1:9090,n2:9090    a name or a group, and the nodes to ask
//	PYROLOC:bank@host:port           the same as PYRO: what the daemon knows by that name
//	PYRO://host:port/guid   PYRONAME://[ns[:port]/]name   PYROLOC://host:port/name    the forms of the Pyro article
type Reference struct {
	Protocol  string
	Object    string
	Locations []string // host:port or ./u:path each; empty if none was given
}

// ParseReference parses every form of ParseURI and those above.  "//" after the protocol always begins a form of the article, and
// PYROLOC, a name that the daemon itself knows, becomes PYRO with the name as object id.  Blanks around the whole and
// around each location are dropped, and so is a location that was already there.
func ParseReference(s string) (Reference, error) {
	s = strings.TrimSpace(s)
	r, err := parseReference(s)
	if err != nil {
		return Reference{}, err
	}
	// An article form can hold an object that the short form cannot ("PYRO://h:1/a b"): it could not be passed on.
	if again, err := parseReference(r.String()); err != nil || !again.equal(r) {
		return Reference{}, PyroError.New("invalid uri (object %q)", r.Object)
	}
	return r, nil
}

func (r Reference) equal(o Reference) bool {
	return r.Protocol == o.Protocol && r.Object == o.Object && slices.Equal(r.Locations, o.Locations)
}

func parseReference(s string) (Reference, error) {
	protocol, rest, ok := strings.Cut(s, ":")
	if article, isArticle := strings.CutPrefix(rest, "//"); ok && isArticle {
		return parseArticleForm(strings.ToUpper(protocol), article)
	}
	protocol, object, locations, err := splitURI(s)
	if err != nil {
		return Reference{}, err
	}
	return newReference(protocol, object, locations)
}

// parseArticleForm parses what follows "PROTOCOL://".
func parseArticleForm(protocol, s string) (Reference, error) {
	location, object, ok := strings.Cut(s, "/")
	if protocol == protocolName && !ok {
		location, object = "", s
	}
	if object == "" {
		return Reference{}, PyroError.New("invalid uri")
	}
	return newReference(protocol, object, location)
}

// newReference checks the parts and completes the locations with the default port.
func newReference(protocol, object, locations string) (Reference, error) {
	if protocol == protocolLocal {
		protocol = protocolObject
	}
	r := Reference{Protocol: protocol, Object: object}
	defaultPort := DefaultPort
	switch protocol {
	case protocolObject:
		defaultPort = -1
	case protocolMeta:
		r.Object = sortTags(object)
	case protocolName:
	default:
		return Reference{}, PyroError.New("invalid uri (protocol)")
	}
	if r.Object == "" || protocol == protocolObject && locations == "" {
		return Reference{}, PyroError.New("invalid uri")
	}
	if locations == "" {
		return r, nil
	}
	for location := range strings.SplitSeq(locations, ",") {
		var u URI
		if err := u.parseLocation(strings.TrimSpace(location), defaultPort); err != nil {
			return Reference{}, err
		}
		if location = u.location(); !slices.Contains(r.Locations, location) {
			r.Locations = append(r.Locations, location)
		}
	}
	return r, nil
}

// URIs returns one URI per location, or a single one without a location.  A location that is not what [ParseReference] leaves
// there becomes the host of its URI, so that connecting reports it.
func (r Reference) URIs() []URI {
	if len(r.Locations) == 0 {
		return []URI{{Protocol: r.Protocol, Object: r.Object}}
	}
	uris := make([]URI, 0, len(r.Locations))
	for _, location := range r.Locations {
		u := URI{Protocol: r.Protocol, Object: r.Object}
		if err := u.parseLocation(location, DefaultPort); err != nil {
			u.Host = location
		}
		uris = append(uris, u)
	}
	return uris
}

// String returns the short form: "PYRO:bank@h1:9090,h2:9090".
func (r Reference) String() string {
	s := r.Protocol + ":" + r.Object
	if len(r.Locations) > 0 {
		s += "@" + strings.Join(r.Locations, ",")
	}
	return s
}
