package events

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// pair is what an index is a set of.
type pair struct{ pattern, value string }

func newIndex(t testing.TB, pairs ...pair) *index[string] {
	t.Helper()
	x := new(index[string])
	for _, p := range pairs {
		if !x.add(parse(t, p.pattern), p.value) {
			t.Fatalf("add %v: it was there", p)
		}
	}
	return x
}

func matches(x *index[string], topic string) []string {
	var found []string
	x.match(topic, func(v string) { found = append(found, v) })
	return found
}

func TestIndexMatch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		pairs []pair
		want  map[string][]string // by topic
	}{
		{"nothing", nil, map[string][]string{"a": nil}},
		{"topics, in the order of adding", []pair{{"t:a", "2"}, {"t:a", "1"}, {"t:b", "3"}},
			map[string][]string{"a": {"2", "1"}, "b": {"3"}, "c": nil}},
		{"wildcards", []pair{{"w:a.*", "one"}, {"w:a.>", "many"}, {"w:*", "word"}, {"w:*.*", "two"}},
			map[string][]string{"a": {"word"}, "a.b": {"many", "one", "two"}, "a.b.c": {"many"}, "b.c": {"two"}}},
		{"the same end by different ways", []pair{{"w:a.*.c", "1"}, {"w:a.b.*", "2"}, {"w:*.b.c", "3"}},
			map[string][]string{"a.b.c": {"2", "1", "3"}, "a.x.c": {"1"}, "a.b.x": {"2"}}},
		{"expressions", []pair{{"r:^B", "1"}, {"r:A", "2"}, {"r:.*c", "3"}},
			map[string][]string{"abc": {"2", "3"}, "b": {"1"}, "x": nil}},
		{"all kinds, each value once", []pair{{"r:a", "x"}, {"w:a.*", "x"}, {"w:a.>", "y"}, {"t:a.b", "x"}, {"r:.", "z"}, {"w:>", "z"}},
			map[string][]string{"a.b": {"x", "z", "y"}, "a.c": {"z", "y", "x"}, "a": {"z", "x"}}},
		{"the cluster's topics", []pair{{"w:>", "all"}, {"w:*.b", "b"}, {"r:.*", "re"}, {"w:$c.*", "c"}, {"w:$c.>", "c2"}, {"t:$c.b", "t"}},
			map[string][]string{"$c.b": {"t", "c2", "c"}, "$c": nil, "$d.b": nil, "c.b": {"all", "b", "re"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := newIndex(t, tt.pairs...)
			for topic, want := range tt.want {
				for range 2 { // the second time from the cache
					if got := matches(x, topic); !slices.Equal(got, want) {
						t.Errorf("%q: got %q, want %q", topic, got, want)
					}
				}
			}
		})
	}
}

func TestIndexIsASet(t *testing.T) {
	t.Parallel()
	x := newIndex(t, pair{"t:a", "1"}, pair{"w:a.*", "1"}, pair{"r:a", "1"}, pair{"r:a", "2"})
	news := parse(t, "t:a")
	if x.add(news, "1") || x.len() != 4 {
		t.Errorf("added again: got true or %d pairs, want false and 4", x.len())
	}
	if x.remove(news, "2") || x.remove(parse(t, "t:b"), "1") || x.len() != 4 {
		t.Errorf("removed what was not there: got true or %d pairs, want false and 4", x.len())
	}
	var list []string
	for p, n := range x.patterns() {
		list = append(list, fmt.Sprint(p, n))
		if x.count(p) != n {
			t.Errorf("%s: got count %d, want %d", p, x.count(p), n)
		}
	}
	if want := []string{"r:a 2", "t:a 1", "w:a.* 1"}; !slices.Equal(list, want) {
		t.Errorf("patterns: got %q, want %q", list, want)
	}
	for range x.patterns() {
		break
	}
	x.removeValue("1")
	if got := matches(x, "a"); x.len() != 1 || !slices.Equal(got, []string{"2"}) {
		t.Errorf("after removal: got %q of %d, want 2 alone", got, x.len())
	}
	x.removeValue("1")
	x.removeValue("2")
	checkEmpty(t, x)
}

// checkEmpty makes sure that nothing is left behind.
func checkEmpty(t *testing.T, x *index[string]) {
	t.Helper()
	if x.len() != 0 || len(x.sets)+len(x.topics)+len(x.wildcards.next)+len(x.expressions)+len(x.patternsOf) != 0 || x.wildcards.rest != nil {
		t.Errorf("got %+v, want it empty", x)
	}
}

// naive is an index that compares everything.
type naive map[pair]bool

func (n naive) match(t *testing.T, topic string) []string {
	found := map[string]bool{}
	for p := range n {
		if parse(t, p.pattern).Match(topic) {
			found[p.value] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// checkLikeNaive compares what both find, and that each value comes once.
func checkLikeNaive(t *testing.T, x *index[string], n naive, topic string) {
	t.Helper()
	got := matches(x, topic)
	again := matches(x, topic)
	if !slices.Equal(got, again) {
		t.Errorf("%q: got %q, then %q", topic, got, again)
	}
	slices.Sort(got)
	if want := n.match(t, topic); !slices.Equal(got, want) {
		t.Fatalf("%q with %v: got %q, want %q", topic, n, got, want)
	}
}

var samplePatterns = []string{
	"t:a", "t:b", "t:a.b", "t:a.b.c", "t:$c.a", "w:*", "w:>", "w:a.*", "w:*.b", "w:a.>", "w:a.*.c", "w:*.*.>", "w:$c.*", "w:$c.>",
	"r:a", "r:.*b$", "r:^(a|b)", "r:",
}

var sampleTopics = []string{"a", "b", "c", "a.b", "a.b.c", "b.b", "a.", ".b", "a.b.c.d", "$c", "$c.a", "$c.a.b", "ab"}

// Changes and matches in any order find what comparing everything finds, whatever the cache holds.
func TestIndexLikeNaive(t *testing.T) {
	t.Parallel()
	const seed = 7
	rnd := rand.New(rand.NewPCG(seed, seed))
	x, n := new(index[string]), naive{}
	for range 5000 {
		p := pair{samplePatterns[rnd.IntN(len(samplePatterns))], fmt.Sprint(rnd.IntN(4))}
		switch pattern := parse(t, p.pattern); rnd.IntN(20) {
		case 0, 1, 2, 3:
			if got := x.add(pattern, p.value); got == n[p] {
				t.Fatalf("add %v to %v: got %t", p, n, got)
			}
			n[p] = true
		case 4, 5, 6, 7:
			if got := x.remove(pattern, p.value); got != n[p] {
				t.Fatalf("remove %v from %v: got %t", p, n, got)
			}
			delete(n, p)
		case 8:
			x.removeValue(p.value)
			maps.DeleteFunc(n, func(q pair, _ bool) bool { return q.value == p.value })
		default:
			checkLikeNaive(t, x, n, sampleTopics[rnd.IntN(len(sampleTopics))])
		}
		if x.len() != len(n) {
			t.Fatalf("got %d pairs, want %d", x.len(), len(n))
		}
	}
	for p := range n {
		x.remove(parse(t, p.pattern), p.value)
	}
	checkEmpty(t, x)
}

// The same calls lead to the same order.
func TestIndexOrder(t *testing.T) {
	t.Parallel()
	build := func() []string {
		x := new(index[string])
		for i, p := range samplePatterns {
			for v := range 5 {
				x.add(parse(t, p), fmt.Sprint((v+i)%7))
			}
		}
		x.removeValue("3")
		return matches(x, "a.b")
	}
	want := build()
	for range 20 {
		if got := build(); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func TestIndexCacheIsBounded(t *testing.T) {
	t.Parallel()
	x := newIndex(t, pair{"w:a.>", "1"}, pair{"r:a", "2"})
	for i := range 5 * maxCachedTopics {
		if got := matches(x, fmt.Sprintf("a.%d", i)); len(got) != 2 {
			t.Fatalf("a.%d: got %q, want both", i, got)
		}
		matches(x, "a.0") // often asked for, so it stays
	}
	if n := len(x.found.recent) + len(x.found.older); n > 2*maxCachedTopics || n < maxCachedTopics {
		t.Errorf("got %d topics, want between %d and %d", n, maxCachedTopics, 2*maxCachedTopics)
	}
	if _, ok := x.found.load("a.0"); !ok {
		t.Error("the topic that is asked for all the time is not remembered")
	}
	if _, ok := x.found.load("a.1"); ok {
		t.Error("a topic of long ago is remembered")
	}

	old := foundCache[string]{older: map[string][]string{"old": {"1"}}}
	if got, ok := old.load("old"); !ok || len(got) != 1 || len(old.recent) != 1 || len(old.older) != 0 || old.values != 1 {
		t.Errorf("a topic that is asked for again: got %q with %+v, want it in the recent half", got, old.recent)
	}

	many := make([]string, maxCachedValues/8)
	c := &x.found
	for i := range 100 {
		c.store(fmt.Sprintf("many.%d", i), many)
	}
	if n := (len(c.recent) + len(c.older)) * len(many); c.values > maxCachedValues || n > 3*maxCachedValues {
		t.Errorf("got %d values in one half, about %d in all, want at most %d in each", c.values, n, maxCachedValues)
	}
	c.store("too many", make([]string, maxCachedValues+1))
	if _, ok := c.load("too many"); ok {
		t.Error("more values than the bound are remembered")
	}
	x.remove(parse(t, "r:a"), "2")
	if len(c.recent)+len(c.older)+c.values != 0 {
		t.Errorf("after a change: got %d topics with %d values, want none", len(c.recent)+len(c.older), c.values)
	}
}

// What was found for a topic some time ago still follows changes.
func TestIndexCacheFollowsChanges(t *testing.T) {
	t.Parallel()
	x := newIndex(t, pair{"w:*", "1"}, pair{"w:*", "2"})
	age := func() { // until the topic a is in the older half
		matches(x, "a")
		for i := range maxCachedTopics {
			matches(x, fmt.Sprint(i))
		}
		if _, ok := x.found.older["a"]; !ok {
			t.Fatal("the topic is not in the older half")
		}
	}
	for _, step := range []struct {
		change func()
		want   []string
	}{
		{func() { x.add(parse(t, "t:a"), "2") }, []string{"2", "1"}},
		{func() { x.add(parse(t, "w:>"), "3") }, []string{"2", "3", "1"}},
		{func() { x.remove(parse(t, "w:*"), "1") }, []string{"2", "3"}},
		{func() { x.remove(parse(t, "t:a"), "2") }, []string{"3", "2"}},
	} {
		age()
		step.change()
		if got := matches(x, "a"); !slices.Equal(got, step.want) {
			t.Errorf("got %q, want %q", got, step.want)
		}
	}
}

// Many may match at the same time; the race detector watches.
func TestIndexManyMatch(t *testing.T) {
	t.Parallel()
	x := newIndex(t, pair{"t:a1", "1"}, pair{"w:*", "1"}, pair{"w:*", "2"})
	for round := range 10 {
		x.add(parse(t, "r:a"), fmt.Sprint("r", round)) // forgets what was found
		var work sync.WaitGroup
		begin := make(chan struct{})
		for g := range 4 {
			work.Go(func() {
				<-begin
				for i := range 200 {
					topic := fmt.Sprintf("a%d", i*(1+g%2)) // some that others ask for too
					if got := matches(x, topic); len(got) != 3+round {
						t.Errorf("%s: got %q, want %d values", topic, got, 3+round)
					}
				}
			})
		}
		close(begin)
		work.Wait()
	}
}

func FuzzIndex(f *testing.F) {
	f.Add("a\na.*\n>\n*.b", "a.b")
	f.Add("$c.>\n>\n*", "$c.a")
	f.Add("..\n.*.\n.>", "..")
	f.Fuzz(func(t *testing.T, patterns, topic string) {
		x, n := new(index[string]), naive{}
		for i, s := range strings.Split(patterns, "\n") {
			if p, err := ParsePattern(s); err == nil && i < 100 {
				value := fmt.Sprint(i % 5)
				x.add(p, value)
				n[pair{p.String(), value}] = true
			}
		}
		if checkAnyTopic(topic) == nil {
			checkLikeNaive(t, x, n, foldTopic(topic))
		}
		for p := range n {
			if !x.remove(parse(t, p.pattern), p.value) {
				t.Errorf("%v is not there", p)
			}
		}
		checkEmpty(t, x)
	})
}

// benchIndex has 10,000 topics and 1,000 patterns with wildcards.
func benchIndex(b *testing.B) *index[int] {
	b.Helper()
	x := new(index[int])
	for i := range 10_000 {
		x.add(parse(b, fmt.Sprintf("t:prices.%d.eur", i)), i)
	}
	for i := range 1000 {
		shape := []string{"w:prices.%d.*", "w:prices.*.x%d", "w:stock.%d.>", "w:*.%d.*"}[i%4]
		x.add(parse(b, fmt.Sprintf(shape, i)), i)
	}
	return x
}

func benchMatch(b *testing.B, x *index[int], topics []string) {
	b.Helper()
	b.ReportAllocs()
	found, i := 0, 0
	for b.Loop() {
		x.match(topics[i], func(int) { found++ })
		if i++; i == len(topics) {
			i = 0
		}
	}
	b.ReportMetric(float64(found)/float64(b.N), "values/op")
}

func BenchmarkIndexMatch(b *testing.B) {
	topics := func(n int, format string) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf(format, i)
		}
		return list
	}
	b.Run("100 topics", func(b *testing.B) { benchMatch(b, benchIndex(b), topics(100, "prices.%d.eur")) })
	b.Run("10000 topics", func(b *testing.B) { benchMatch(b, benchIndex(b), topics(10_000, "prices.%d.eur")) })
	b.Run("nobody listens", func(b *testing.B) { benchMatch(b, benchIndex(b), topics(100, "none.%d")) })
	b.Run("exact alone", func(b *testing.B) {
		x := new(index[int])
		for i := range 10_000 {
			x.add(parse(b, fmt.Sprintf("t:prices.%d.eur", i)), i)
		}
		benchMatch(b, x, topics(10_000, "prices.%d.eur"))
	})
	b.Run("100 expressions, 10000 topics", func(b *testing.B) {
		x := benchIndex(b)
		for i := range 100 {
			x.add(parse(b, fmt.Sprintf(`r:prices\.\d*%d\.`, i)), i)
		}
		benchMatch(b, x, topics(10_000, "prices.%d.eur"))
	})
}

// The longest that an expression can take.
func BenchmarkSlowExpression(b *testing.B) {
	p := parse(b, `r:(?:.*.*){120}[xy]`)
	topic := strings.Repeat("a", maxTopicBytes)
	for b.Loop() {
		p.Match(topic)
	}
}

func TestIndexMatchAllocates(t *testing.T) {
	x := newIndex(t, pair{"t:a", "1"}, pair{"w:b.*", "2"}, pair{"r:c", "3"})
	for _, topic := range []string{"a", "b.c", "c", "d"} {
		found := 0
		if n := testing.AllocsPerRun(100, func() { x.match(topic, func(string) { found++ }) }); n != 0 {
			t.Errorf("%q: got %v allocations, want none", topic, n)
		}
	}
}
