package core

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Pyro sends an object of a class as a dict with the key "__class__" (Pyro5 docs, "Serialization").  This file turns the classes
// that core knows into such dicts and back; every serializer uses it.

const (
	classKey     = "__class__"
	exceptionKey = "__exception__"
	tracebackKey = "_pyroTraceback"

	uriClass   = "Pyro5.core.URI"
	proxyClass = "Pyro5.client.Proxy"
)

// classDict returns the dict that stands for v, its keys in the order in which Pyro writes them; false if v is of no such class.
func classDict(v any) (Dict, bool) {
	switch v := v.(type) {
	case ClassDict:
		d := Dict{{classKey, v.Class}}
		return append(d, sortedItems(v.Attrs)...), true
	case URI:
		return Dict{{classKey, uriClass}, {"state", uriState(v)}}, true
	case *Proxy:
		return classDict(v.state())
	case ProxyState:
		return Dict{{classKey, proxyClass}, {"state", proxyState(v)}}, true
	case *RemoteError:
		return exceptionDict(v), true
	case ExceptionClass:
		return exceptionDict(&RemoteError{Class: v}), true
	case error:
		return exceptionDict(methodError(v)), true
	}
	return nil, false
}

func exceptionDict(e *RemoteError) Dict {
	attrs := Dict{}
	if e.Traceback != nil {
		attrs = append(attrs, Pair{tracebackKey, e.Traceback})
	}
	for _, p := range sortedItems(e.Attributes) {
		if p.Key != tracebackKey || e.Traceback == nil {
			attrs = append(attrs, p)
		}
	}
	return Dict{{classKey, string(e.Class)}, {exceptionKey, true}, {"args", Tuple(e.Args)}, {"attributes", attrs}}
}

func uriState(u URI) Tuple {
	state := Tuple{u.Protocol, u.Object, nil, nil, nil}
	if u.Protocol == protocolMeta {
		tags := Set{}
		for tag := range strings.SplitSeq(u.Object, ",") {
			tags = append(tags, tag)
		}
		state[1] = tags
	}
	if u.Socket != "" {
		state[2] = u.Socket
	}
	if u.Host != "" {
		state[3], state[4] = u.Host, u.Port
	}
	return state
}

func proxyState(p ProxyState) Tuple {
	state := Tuple{p.URI.String(), textTuple(p.Oneway), textTuple(p.Methods), textTuple(p.Attrs), p.Handshake, nil}
	if p.Serializer != "" {
		state[5] = p.Serializer
	}
	return state
}

func textTuple(s []string) Tuple {
	t := make(Tuple, len(s))
	for i := range s {
		t[i] = s[i]
	}
	return t
}

// sortedItems returns the items of m in the order of their keys.
func sortedItems(m map[string]any) Dict {
	d := make(Dict, 0, len(m))
	for _, k := range appendSortedKeys(nil, m) {
		d = append(d, Pair{k, m[k]})
	}
	return d
}

// appendSortedKeys appends the keys of m to an empty slice, which may be on the caller's stack.
func appendSortedKeys(keys []string, m map[string]any) []string {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// classValue turns a dict that was read, and whose values are done, into the value it stands for.  A dict without a class is
// returned as it is.  m is the caller's no longer.
func classValue(m map[string]any) (any, error) {
	class, ok := classOf(m)
	if !ok {
		return m, nil
	}
	class = pyro5Class(class)
	switch {
	case class == uriClass:
		return uriFromState(m["state"])
	case class == proxyClass:
		return proxyFromState(m["state"])
	case strings.HasPrefix(class, "Pyro5.errors."), m[exceptionKey] == true:
		return exceptionFrom(class, m)
	}
	delete(m, classKey)
	return classRead(ClassDict{Class: class, Attrs: m}), nil
}

func classOf(m map[string]any) (string, bool) {
	switch class := m[classKey].(type) {
	case string:
		return class, true
	case []byte: // of a writer without a type for text
		return string(class), true
	}
	return "", false
}

func exceptionFrom(class string, m map[string]any) (*RemoteError, error) {
	e := &RemoteError{Class: exceptionClass(class)}
	switch args := m["args"].(type) {
	case nil:
	case Tuple:
		e.Args = args
	case []any:
		e.Args = args
	default:
		return nil, fmt.Errorf("exception %s has %s as args, want a tuple", class, pythonType(args))
	}
	switch attrs := m["attributes"].(type) {
	case nil:
	case map[string]any:
		e.Attributes = attrs
	default:
		return nil, fmt.Errorf("exception %s has %s as attributes, want a dict", class, pythonType(attrs))
	}
	if lines, ok := tracebackLines(e.Attributes[tracebackKey]); ok {
		e.Traceback = lines
		delete(e.Attributes, tracebackKey)
	}
	if len(e.Attributes) == 0 {
		e.Attributes = nil
	}
	e.cause = registeredCause(e)
	return e, nil
}

// tracebackLines returns v as lines of text; false if that is not what it is, which leaves it an ordinary attribute.
func tracebackLines(v any) ([]string, bool) {
	items, ok := sequence(v)
	if !ok {
		return nil, v == nil
	}
	return texts(items)
}

// exceptionClass adds the module that Python leaves out, or names otherwise than Python 3 does.
func exceptionClass(class string) ExceptionClass {
	if name, ok := strings.CutPrefix(class, "exceptions."); ok {
		return ExceptionClass("builtins." + name)
	}
	if strings.Contains(class, ".") {
		return ExceptionClass(class)
	}
	if full := ExceptionClass("Pyro5.errors." + class); full == PyroError || parents[full] != "" {
		return full
	}
	return ExceptionClass("builtins." + class)
}

func uriFromState(state any) (URI, error) {
	s, ok := sequence(state)
	if !ok || len(s) != 5 {
		return URI{}, fmt.Errorf("%s with a state that is no tuple of 5", uriClass)
	}
	var u URI
	err := errors.Join(
		classText(&u.Protocol, s[0], "protocol"),
		uriObject(&u, s[1]),
		classText(&u.Socket, s[2], "socket"),
		classText(&u.Host, s[3], "host"))
	if err != nil {
		return URI{}, fmt.Errorf("%s: %w", uriClass, err)
	}
	switch port := s[4].(type) {
	case nil:
	case int64:
		if port < 0 || port > 65535 {
			return URI{}, fmt.Errorf("%s: port %d, want 0 to 65535", uriClass, port)
		}
		u.Port = int(port)
	default:
		return URI{}, fmt.Errorf("%s: port is %s, want int", uriClass, pythonType(port))
	}
	if u.Host == "" {
		u.Port = 0
	}
	return u, nil
}

// uriObject sets the object id from text or, for PYROMETA, from a collection of tags.
func uriObject(u *URI, v any) error {
	if items, ok := sequence(v); ok {
		tags, ok := texts(items)
		if !ok {
			return errors.New("object is a collection of other than str")
		}
		v = strings.Join(tags, ",")
	}
	if err := classText(&u.Object, v, "object"); err != nil {
		return err
	}
	if u.Protocol == protocolMeta {
		tags := strings.Split(u.Object, ",")
		slices.Sort(tags)
		u.Object = strings.Join(slices.Compact(tags), ",")
	}
	return nil
}

// proxyFromState reads the state of a proxy: its address, three sets of names, the handshake, and the serializer.
func proxyFromState(state any) (ProxyState, error) {
	s, ok := sequence(state)
	s = proxyState5(s)
	if !ok || len(s) != 6 {
		return ProxyState{}, fmt.Errorf("%s with a state that is no tuple of 6", proxyClass)
	}
	var text string
	p := ProxyState{Handshake: s[4]}
	err := errors.Join(
		classText(&text, s[0], "uri"),
		classTexts(&p.Oneway, s[1], "oneway"),
		classTexts(&p.Methods, s[2], "methods"),
		classTexts(&p.Attrs, s[3], "attrs"),
		classText(&p.Serializer, s[5], "serializer"))
	if err == nil {
		p.URI, err = ParseURI(text)
	}
	if err != nil {
		return ProxyState{}, fmt.Errorf("%s: %w", proxyClass, err)
	}
	return p, nil
}

// classText sets dst from a str or None.
func classText(dst *string, v any, what string) error {
	s, ok := v.(string)
	if !ok && v != nil {
		return fmt.Errorf("%s is %s, want str", what, pythonType(v))
	}
	*dst = s
	return nil
}

// classTexts sets dst from a collection of str.
func classTexts(dst *[]string, v any, what string) error {
	items, ok := sequence(v)
	if ok {
		*dst, ok = texts(items)
	}
	if !ok {
		return fmt.Errorf("%s is %s, want a collection of str", what, pythonType(v))
	}
	return nil
}

// sequence returns the members of a list, tuple or set.
func sequence(v any) ([]any, bool) {
	switch v := v.(type) {
	case []any:
		return v, true
	case Tuple:
		return v, true
	case Set:
		return v, true
	case FrozenSet:
		return v, true
	}
	return nil, false
}

func texts(items []any) ([]string, bool) {
	s := make([]string, len(items))
	for i, v := range items {
		text, ok := v.(string)
		if !ok {
			return nil, false
		}
		s[i] = text
	}
	return s, true
}
