package core

import (
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

type regAccount struct {
	Owner   string
	Balance int
	Tags    []string `pyro:"labels"`
	Home    *regPlace
	Data    []byte
	hidden  int
}

type regPlace struct{ City string }

func (p *regPlace) Where() string { return p.City }

// regCelsius is no struct.
type regCelsius float64

type regAlias struct{ N int }

type regPointer struct{ N int }

type regShort struct {
	Code    int
	Missing []string
}

func (e *regShort) Error() string { return fmt.Sprintf("short of %d", e.Code) }

type regArgs struct {
	Args []any `pyro:"args"`
}

func (e regArgs) Error() string { return "args" }

var errRegStop = errors.New("stop")

// init registers for all tests, whose serializers belong to the process.
func init() {
	RegisterClass[regAccount]("regtest.Account")
	RegisterClass[regAccount]("regtest.Account") // as before
	RegisterClass[regAccount]("__main__.Account")
	RegisterClass[regPlace]("regtest.Place")
	RegisterClass[*regPointer]("regtest.Pointer")
	RegisterClassFuncs("regtest.Celsius",
		func(c regCelsius) (map[string]any, error) {
			if c < -273.15 {
				return nil, errors.New("too cold")
			}
			return map[string]any{"degrees": float64(c)}, nil
		},
		func(attrs map[string]any) (regCelsius, error) {
			c, ok := attrs["degrees"].(float64)
			if !ok {
				return 0, fmt.Errorf("degrees are %T", attrs["degrees"])
			}
			return regCelsius(c), nil
		})
	RegisterClassFuncs("regtest.Panic",
		func(regAlias) (map[string]any, error) { panic("encode") },
		func(map[string]any) (regAlias, error) { panic("decode") })
	RegisterError[*regShort]("regtest.Short")
	RegisterError[regArgs]("regtest.Args")
	RegisterErrorValue("builtins.EOFError", io.EOF)
	RegisterErrorValue("regtest.Stop", errRegStop)
}

// spec: Z5
func TestRegisteredClasses(t *testing.T) {
	t.Parallel()
	home := &regPlace{"Utrecht"}
	full := regAccount{Owner: "irmen", Balance: 5, Tags: []string{"a"}, Home: home}
	pointer := &full
	tests := []struct {
		name  string
		write any
		want  any
	}{
		{"struct", full, full},
		{"pointer", &full, full},
		{"nil pointer", (*regAccount)(nil), nil},
		{"pointer to a pointer", &pointer, full},
		{"registered as a pointer", regPointer{5}, &regPointer{5}},
		{"pointer registered as a pointer", &regPointer{5}, &regPointer{5}},
		{"function", regCelsius(21.5), regCelsius(21.5)},
		{"in a list", []regCelsius{1, 2}, []any{regCelsius(1), regCelsius(2)}},
		{"in a map", map[string]any{"home": home}, map[string]any{"home": *home}},
		{"in an object", ClassDict{"x.Y", map[string]any{"at": home}}, ClassDict{"x.Y", map[string]any{"at": *home}}},
		{"in an exception", &RemoteError{Class: ValueError, Attributes: map[string]any{"at": home}},
			&RemoteError{Class: ValueError, Args: []any{}, Attributes: map[string]any{"at": *home}}},
		{"other class", ClassDict{"__main__.Account", map[string]any{"owner": "x"}}, regAccount{Owner: "x"}},
		{"attributes without a field", ClassDict{"regtest.Place", map[string]any{"city": "x", "zip": "y"}}, regPlace{"x"}},
		{"attributes that do not fit", ClassDict{"regtest.Account", map[string]any{"owner": int64(1)}},
			ClassDict{"regtest.Account", map[string]any{"owner": int64(1)}}},
		{"function that fails", ClassDict{"regtest.Celsius", map[string]any{}}, ClassDict{"regtest.Celsius", map[string]any{}}},
		{"function that panics", ClassDict{"regtest.Panic", map[string]any{}}, ClassDict{"regtest.Panic", map[string]any{}}},
	}
	for _, tt := range tests {
		for _, s := range serializers {
			data, err := s.AppendRequest(nil, Request{Object: "o", Method: "m", Args: []any{tt.write}, Kwargs: map[string]any{"k": tt.write}})
			if err != nil {
				t.Errorf("%s %s: %v", s.Name(), tt.name, err)
				continue
			}
			r, err := s.ParseRequest(data)
			if err != nil {
				t.Errorf("%s %s: %q: %v", s.Name(), tt.name, data, err)
				continue
			}
			for place, got := range map[string]any{"argument": r.Args[0], "keyword": r.Kwargs["k"]} {
				got, want := fixArgs(got), tt.want
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s %s: %s: %q:\n got %#v\nwant %#v", s.Name(), tt.name, place, data, got, want)
				}
			}
		}
	}
}

// fixArgs gives an exception the arguments of one that was made here.
func fixArgs(v any) any {
	if e, ok := v.(*RemoteError); ok && len(e.Args) == 0 {
		e.Args = []any{}
	}
	return v
}

// TestRegisteredClassOnTheWire looks at what Python gets, and at fields that not every format can express.
func TestRegisteredClassOnTheWire(t *testing.T) {
	t.Parallel()
	account := regAccount{Owner: "irmen", Balance: 5, Data: []byte("x"), hidden: 1}
	data, err := serpentSerializer{}.AppendValue(nil, account)
	const want = serpentHeader + "{'__class__':'regtest.Account','owner':'irmen','balance':5,'labels':[],'home':None,'data':{'data': 'eA==', 'encoding': 'base64'}}"
	if err != nil || string(data) != want {
		t.Fatalf("got %s, %v, want %s", data, err, want)
	}
	got, err := serpentSerializer{}.ParseValue(data)
	account.hidden, account.Tags = 0, []string{}
	if err != nil || !reflect.DeepEqual(got, account) {
		t.Errorf("got %#v, %v, want %#v", got, err, account)
	}
	for _, tt := range []struct {
		name  string
		value any
		want  string
	}{
		{"encode", regCelsius(-300), "class regtest.Celsius: too cold"},
		{"nested", []any{map[string]any{"x": regCelsius(-300)}}, "class regtest.Celsius: too cold"},
		{"panic", &regAlias{}, "class regtest.Panic: panic: encode"},
		{"key", map[regPlace]int{{}: 1}, "unhashable type"},
		{"json has no bytes", account, "json has no type for bytes"},
	} {
		if data, err := (jsonSerializer{}).AppendValue(nil, tt.value); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %q, %v, want %q", tt.name, data, err, tt.want)
		}
	}
}

// spec: Z5
func TestConvertRegistered(t *testing.T) {
	t.Parallel()
	home := regPlace{"Utrecht"}
	type other struct{ City string }
	tests := []struct {
		name  string
		value any
		want  any // of the type to convert into
	}{
		{"same type", home, home},
		{"pointer", home, &home},
		{"without pointer", &regPointer{5}, regPointer{5}},
		{"other struct", home, other{"Utrecht"}},
		{"map", home, map[string]string{"city": "Utrecht"}},
		{"object", home, ClassDict{"regtest.Place", map[string]any{"city": "Utrecht"}}},
		{"slice", []any{home, home}, []*regPlace{&home, &home}},
		{"function", regCelsius(5), regCelsius(5)},
		{"dict", map[string]any{"city": "Utrecht"}, home},
		{"other class", ClassDict{"x.Y", map[string]any{"city": "Utrecht"}}, home},
	}
	for _, tt := range tests {
		out := reflect.New(reflect.TypeOf(tt.want))
		if err := Convert(out.Interface(), tt.value); err != nil || !reflect.DeepEqual(out.Elem().Interface(), tt.want) {
			t.Errorf("%s: Convert(%T, %#v): got %#v, %v, want %#v", tt.name, tt.want, tt.value, out.Elem().Interface(), err, tt.want)
		}
	}
	var where interface{ Where() string }
	if err := Convert(&where, home); err != nil || where.Where() != "Utrecht" {
		t.Errorf("interface: got %v, %v", where, err)
	}
	for _, tt := range []struct {
		name  string
		out   any
		value any
		want  string
	}{
		{"field", new([]regAccount), []any{ClassDict{"regtest.Account", map[string]any{"home": ClassDict{"regtest.Place", map[string]any{"city": true}}}}},
			"core: [0].home.city: got bool true, want string"},
		{"function", new(map[string]*regCelsius), map[string]any{"t": ClassDict{"regtest.Celsius", map[string]any{}}},
			"core: t: class regtest.Celsius: degrees are <nil>"},
		{"panic", new(regAlias), ClassDict{"regtest.Panic", map[string]any{}}, "core: class regtest.Panic: panic: decode"},
		{"interface", new(interface{ Where() string }), regCelsius(1), "core: got regtest.Celsius, want interface"},
	} {
		if err := Convert(tt.out, tt.value); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// spec: R2 R4 R6 Z7
func TestRegisteredErrors(t *testing.T) {
	t.Parallel()
	short := &regShort{Code: 7, Missing: []string{"a"}}
	attrs := map[string]any{"code": int64(7), "missing": []any{"a"}}
	tests := []struct {
		name string
		err  error
		want *RemoteError // as it is read
	}{
		{"pointer", short, &RemoteError{Class: "regtest.Short", Args: []any{"short of 7"}, Attributes: attrs}},
		{"wrapped", fmt.Errorf("pay: %w", short), &RemoteError{Class: "regtest.Short", Args: []any{"pay: short of 7"}, Attributes: attrs}},
		{"joined", errors.Join(errors.New("x"), short), &RemoteError{Class: "regtest.Short", Args: []any{"x\nshort of 7"}, Attributes: attrs}},
		{"nil pointer", fmt.Errorf("pay: %w", (*regShort)(nil)), ExceptionClass("regtest.Short").New("pay: <nil>")},
		{"args", regArgs{[]any{"a", int64(2)}}, &RemoteError{Class: "regtest.Args", Args: []any{"a", int64(2)}}},
		{"value", fmt.Errorf("read: %w", io.EOF), ExceptionClass("builtins.EOFError").New("read: EOF")},
		{"other value", errRegStop, ExceptionClass("regtest.Stop").New("stop")},
		{"exception above", fmt.Errorf("x: %w: %w", ValueError.New("v"), short), ValueError.New("v")},
		{"registered above", errors.Join(short, ValueError.New("v")), &RemoteError{Class: "regtest.Short", Args: []any{"short of 7\nValueError: v"}, Attributes: attrs}},
		{"not registered", errors.New("x"), RuntimeError.New("x")},
		{"not comparable", uncomparable{[]int{1}}, RuntimeError.New("uncomparable")},
	}
	for _, tt := range tests {
		for _, s := range serializers {
			data, err := s.AppendValue(nil, []any{tt.err})
			if err != nil {
				t.Errorf("%s %s: %v", s.Name(), tt.name, err)
				continue
			}
			v, err := s.ParseValue(data)
			if err != nil {
				t.Fatalf("%s %s: %v", s.Name(), tt.name, err)
			}
			if got, want := show(v.([]any)[0]), show(tt.want); got != want {
				t.Errorf("%s %s: %q:\n got %s\nwant %s", s.Name(), tt.name, data, got, want)
			}
		}
	}
}

type uncomparable struct{ list []int }

func (uncomparable) Error() string { return "uncomparable" }

// spec: R6
func TestRegisteredErrorsAreFound(t *testing.T) {
	t.Parallel()
	read := func(err error) error {
		data, e := msgpackSerializer{}.AppendValue(nil, err)
		if e != nil {
			t.Fatal(e)
		}
		v, e := msgpackSerializer{}.ParseValue(data)
		if e != nil {
			t.Fatal(e)
		}
		return v.(*RemoteError)
	}
	err := fmt.Errorf("call: %w", read(&regShort{Code: 7, Missing: []string{"a"}}))
	short, ok := errors.AsType[*regShort](err)
	if !ok || short.Code != 7 || !slices.Equal(short.Missing, []string{"a"}) {
		t.Errorf("errors.As: got %+v, %v", short, ok)
	}
	if remote, ok := errors.AsType[*RemoteError](err); !ok || remote.Text() != "short of 7" || !errors.Is(err, ExceptionClass("regtest.Short")) {
		t.Errorf("got %v, %v, want the exception, too", remote, ok)
	}
	var out *regShort
	if err := Convert(&out, read(short)); err != nil || out.Code != 7 {
		t.Errorf("Convert: got %v, %v", out, err)
	}
	var value regShort
	if err := Convert(&value, read(short)); err != nil || value.Code != 7 {
		t.Errorf("Convert into a struct: got %v, %v", value, err)
	}
	if args, ok := errors.AsType[regArgs](read(regArgs{[]any{"a"}})); !ok || len(args.Args) != 1 {
		t.Errorf("args: got %v, %v", args, ok)
	}
	if err := read(io.EOF); !errors.Is(err, io.EOF) || errors.Is(err, errRegStop) {
		t.Errorf("got %v, want EOF", err)
	}
	misfit := read(&RemoteError{Class: "regtest.Short", Attributes: map[string]any{"code": "x"}})
	if short, ok := errors.AsType[*regShort](misfit); ok {
		t.Errorf("attributes that do not fit: got %v", short)
	}
}

func TestRegisterPanics(t *testing.T) {
	t.Parallel()
	type empty struct{ _ int }
	type fresh struct{ X int }
	type freshError struct{ error }
	tests := []struct {
		name     string
		register func()
		want     string
	}{
		{"no class", func() { RegisterClass[fresh]("") }, "Pyro's own"},
		{"class of Pyro", func() { RegisterClass[fresh](uriClass) }, "Pyro's own"},
		{"error of Pyro", func() { RegisterClass[fresh]("Pyro5.errors.NamingError") }, "Pyro's own"},
		{"no struct", func() { RegisterClass[regCelsius]("x") }, "no struct"},
		{"no fields", func() { RegisterClass[empty]("x") }, "no exported fields"},
		{"class of another type", func() { RegisterClass[fresh]("regtest.Account") }, "core.regAccount already"},
		{"pointer and not", func() { RegisterClass[*regAccount]("x") }, "has class regtest.Account already"},
		{"functions twice", func() {
			RegisterClassFuncs("regtest.Celsius", func(regCelsius) (map[string]any, error) { return nil, nil },
				func(map[string]any) (regCelsius, error) { return 0, nil })
		}, "already"},
		{"without a name", func() { RegisterClass[struct{ X int }]("x") }, "cannot have a class"},
		{"time", func() { RegisterClass[time.Time]("x") }, "no exported fields"},
		{"uri", func() { RegisterClass[URI]("x") }, "cannot have a class"},
		{"error as a class", func() { RegisterClass[regArgs]("x") }, "cannot have a class"},
		{"exception without a class", func() { RegisterError[freshError]("") }, "without a class"},
		{"exception of another type", func() { RegisterError[freshError]("regtest.Short") }, "already"},
		{"no struct", func() { RegisterError[ExceptionClass]("x") }, "no struct"},
		{"nil error", func() { RegisterErrorValue("x", nil) }, "cannot be compared"},
		{"error that cannot be compared", func() { RegisterErrorValue("x", uncomparable{}) }, "cannot be compared"},
		{"value of another class", func() { RegisterErrorValue("x", io.EOF) }, "builtins.EOFError already"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), tt.want) {
					t.Errorf("got %v, want %q", p, tt.want)
				}
			}()
			tt.register()
		})
	}
}

// TestTextMarshalers writes types with a text of their own, and reads them again.
func TestTextMarshalers(t *testing.T) {
	t.Parallel()
	type server struct {
		Addr  netip.Addr
		Rate  big.Rat
		Limit *big.Float
		Since *time.Time
		Wait  time.Duration
		Ports map[netip.Addr]int
	}
	since := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	addr := netip.MustParseAddr("10.0.0.1")
	want := server{addr, *big.NewRat(11, 10), big.NewFloat(1.5), &since, 1500 * time.Millisecond, map[netip.Addr]int{addr: 80}}
	for _, s := range serializers {
		if s.Name() == "marshal" {
			want.Since = nil
		}
		data, err := s.AppendValue(nil, want)
		if err != nil {
			t.Fatalf("%s: %v", s.Name(), err)
		}
		v, err := s.ParseValue(data)
		if err != nil {
			t.Fatalf("%s: %v", s.Name(), err)
		}
		dict, _ := v.(map[string]any)
		if dict["addr"] != "10.0.0.1" || dict["rate"] != "11/10" || dict["limit"] != "1.5" || dict["wait"] != 1.5 {
			t.Errorf("%s: %q: got %v", s.Name(), data, v)
		}
		var got server
		if err := Convert(&got, v); err != nil {
			t.Fatalf("%s: %v", s.Name(), err)
		}
		if got.Addr != want.Addr || got.Rate.Cmp(&want.Rate) != 0 || got.Limit.Cmp(want.Limit) != 0 || got.Wait != want.Wait || got.Ports[addr] != 80 {
			t.Errorf("%s: got %+v, want %+v", s.Name(), got, want)
		}
		if want.Since != nil && !got.Since.Equal(since) {
			t.Errorf("%s: got %v, want %v", s.Name(), got.Since, since)
		}
	}
}

type regBank struct{ Best regAccount }

func (*regBank) Open(a *regAccount) (regAccount, error) {
	if a.Balance < 0 {
		return regAccount{}, fmt.Errorf("open: %w", &regShort{Code: -a.Balance})
	}
	a.Balance++
	return *a, nil
}

func (*regBank) Any(v any) string { return fmt.Sprintf("%T", v) }

func (*regBank) All(accounts []regAccount, by map[string]*regAccount) map[string][]regAccount {
	return map[string][]regAccount{"all": append(accounts, *by["x"])}
}

// spec: Z5 R2 R3 R6
func TestRegisteredTypesInCalls(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("bank", &regBank{}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range serializers {
		t.Run(s.Name(), func(t *testing.T) {
			t.Parallel()
			p := proxyFor(t, uri, ProxyOptions{Serializer: s.Name()})
			account := regAccount{Owner: "irmen", Balance: 5, Tags: []string{}}
			var got regAccount
			if err := p.Call(t.Context(), "open", &got, account); err != nil || got.Balance != 6 || got.Owner != "irmen" {
				t.Errorf("open: got %+v, %v", got, err)
			}
			var v any
			if err := p.Call(t.Context(), "open", &v, Kwargs{}, account); err == nil {
				t.Errorf("keywords before arguments: got %v", v)
			}
			if err := p.Call(t.Context(), "open", &v, account); err != nil || reflect.TypeOf(v) != reflect.TypeFor[regAccount]() {
				t.Errorf("open into any: got %#v, %v", v, err)
			}
			if err := p.Call(t.Context(), "any", &v, &account); err != nil || v != "core.regAccount" {
				t.Errorf("any: got %v, %v", v, err)
			}
			var all map[string][]*regAccount
			if err := p.Call(t.Context(), "all", &all, []regAccount{account}, map[string]regAccount{"x": account}); err != nil || len(all["all"]) != 2 {
				t.Errorf("all: got %v, %v", all, err)
			}
			account.Balance = -3
			err := p.Call(t.Context(), "open", &got, account)
			if short, ok := errors.AsType[*regShort](err); !ok || short.Code != 3 {
				t.Errorf("open: got %v, want *regShort with code 3", err)
			}
			remote, _ := errors.AsType[*RemoteError](err)
			if place := strings.Join(remote.Traceback, ""); !strings.Contains(place, "registry_test.go\", line ") || !strings.Contains(place, "(*regBank).Open") {
				t.Errorf("traceback: got %q, want the place of the method", remote.Traceback)
			}
			err = p.Call(t.Context(), "open", nil, ClassDict{"regtest.Account", map[string]any{"home": ClassDict{"regtest.Place", map[string]any{"city": 5}}}})
			if err == nil || !strings.HasSuffix(err.Error(), "open() argument 1: home.city: got int 5, want string") {
				t.Errorf("attribute that does not fit: got %v", err)
			}
			if err := p.SetAttr(t.Context(), "best", regAccount{Owner: "best"}); err != nil {
				t.Error(err)
			}
			if err := p.Attr(t.Context(), "best", &got); err != nil || got.Owner != "best" {
				t.Errorf("attribute: got %+v, %v", got, err)
			}
			var number struct{ Owner int }
			if err := p.Attr(t.Context(), "best", &number); err == nil || err.Error() != `core: attribute.owner: got str "best", want int` {
				t.Errorf("attribute that does not fit: got %v", err)
			}
			var wrong map[string][]struct{ Owner int }
			const want = `core: all: result.all[0].owner: got str "irmen", want int`
			account.Balance = 1
			if err := p.Call(t.Context(), "all", &wrong, []regAccount{account}, map[string]regAccount{"x": account}); err == nil || err.Error() != want {
				t.Errorf("path: got %v, want %s", err, want)
			}
		})
	}
}
