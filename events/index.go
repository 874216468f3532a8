package events

import (
	"iter"
	"maps"
	"slices"
	"sync"
)

// index is a set of pairs of a [Pattern] and a value, a subscriber, made for finding the values whose patterns match a topic.  The zero
// value is empty.
//
// Any number of goroutines may call match and the other methods that only read at the same time; add, remove and removeValue exclude all.
type index[T comparable] struct {
	sets        map[string]*valueSet[T] // by Pattern.String
	topics      map[string]*valueSet[T] // exact topics
	wildcards   tokenNode[T]
	expressions []*valueSet[T]
	patternsOf  map[T]map[string]struct{} // keys of sets
	pairs       int
	found       foundCache[T]
}

// valueSet are the values of one pattern, in the order in which they came.
type valueSet[T comparable] struct {
	pattern Pattern
	values  []T
}

// add returns false if the pair was there.
func (x *index[T]) add(p Pattern, v T) bool {
	key := p.String()
	if _, ok := x.patternsOf[v][key]; ok {
		return false
	}
	if x.sets == nil {
		x.sets, x.topics = map[string]*valueSet[T]{}, map[string]*valueSet[T]{}
		x.patternsOf = map[T]map[string]struct{}{}
	}
	if x.patternsOf[v] == nil {
		x.patternsOf[v] = map[string]struct{}{}
	}
	x.patternsOf[v][key] = struct{}{}
	set := x.sets[key]
	if set == nil {
		set = &valueSet[T]{pattern: p}
		x.sets[key] = set
		x.insert(set)
	}
	set.values = append(set.values, v)
	x.pairs++
	x.found.forget(p)
	return true
}

// insert makes a new set known to match.
func (x *index[T]) insert(set *valueSet[T]) {
	switch p := set.pattern; p.kind() {
	case topicKind:
		x.topics[p.body()] = set
	case wildcardKind:
		x.wildcards.insert(p.body(), set)
	case expressionKind:
		x.expressions = append(x.expressions, set)
	}
}

// remove returns false if the pair was not there.
func (x *index[T]) remove(p Pattern, v T) bool {
	key := p.String()
	if _, ok := x.patternsOf[v][key]; !ok {
		return false
	}
	if delete(x.patternsOf[v], key); len(x.patternsOf[v]) == 0 {
		delete(x.patternsOf, v)
	}
	set := x.sets[key]
	i := slices.Index(set.values, v)
	set.values = slices.Delete(set.values, i, i+1)
	x.pairs--
	if len(set.values) == 0 {
		delete(x.sets, key)
		x.drop(set)
	}
	x.found.forget(p)
	return true
}

// drop is the inverse of insert.
func (x *index[T]) drop(set *valueSet[T]) {
	switch p := set.pattern; p.kind() {
	case topicKind:
		delete(x.topics, p.body())
	case wildcardKind:
		x.wildcards.drop(p.body())
	case expressionKind:
		i := slices.Index(x.expressions, set)
		x.expressions = slices.Delete(x.expressions, i, i+1)
	}
}

// removeValue removes all pairs with v.
func (x *index[T]) removeValue(v T) {
	for key := range x.patternsOf[v] {
		x.remove(x.sets[key].pattern, v)
	}
}

// match calls yield once with each value that has a pattern that matches a topic, which must be folded.  The order depends on nothing but
// the calls of add and remove before.  yield must not change the index.
func (x *index[T]) match(topic string, yield func(T)) {
	var exact []T
	if set := x.topics[topic]; set != nil {
		exact = set.values
	}
	for _, v := range exact {
		yield(v)
	}
	if len(x.topics) == len(x.sets) {
		return
	}
	more, ok := x.found.load(topic)
	if !ok {
		more = x.search(topic, exact)
		x.found.store(topic, more)
	}
	for _, v := range more {
		yield(v)
	}
}

// search returns the values with a wildcard or an expression that matches, without those in exact.
func (x *index[T]) search(topic string, exact []T) []T {
	var sets []*valueSet[T]
	x.wildcards.match(topic, isClusterTopic(topic), &sets)
	for _, set := range x.expressions {
		if set.pattern.Match(topic) {
			sets = append(sets, set)
		}
	}
	if len(sets) == 0 {
		return nil
	}
	if len(sets) == 1 && len(exact) == 0 {
		return sets[0].values // who changes them forgets what was found
	}
	seen := make(map[T]struct{}, len(exact)+len(sets[0].values))
	for _, v := range exact {
		seen[v] = struct{}{}
	}
	var found []T
	for _, set := range sets {
		for _, v := range set.values {
			if _, ok := seen[v]; !ok {
				seen[v] = struct{}{}
				found = append(found, v)
			}
		}
	}
	return found
}

// len returns the number of pairs.
func (x *index[T]) len() int { return x.pairs }

// patterns returns each pattern once, sorted by its String, with the number of its values.
func (x *index[T]) patterns() iter.Seq2[Pattern, int] {
	return func(yield func(Pattern, int) bool) {
		for _, key := range slices.Sorted(maps.Keys(x.sets)) {
			if set := x.sets[key]; !yield(set.pattern, len(set.values)) {
				return
			}
		}
	}
}

// count returns the number of a pattern's values.
func (x *index[T]) count(p Pattern) int {
	if set := x.sets[p.String()]; set != nil {
		return len(set.values)
	}
	return 0
}

// tokenNode is a place in the tree of wildcard patterns, whose edges are tokens.
type tokenNode[T comparable] struct {
	next map[string]*tokenNode[T] // by the token, or anyToken
	end  *valueSet[T]             // of the pattern that ends here
	rest *valueSet[T]             // of the pattern that goes on with restTokens
}

func (n *tokenNode[T]) insert(pattern string, set *valueSet[T]) {
	token, behind, more := cutToken(pattern)
	if token == restTokens {
		n.rest = set
		return
	}
	child := n.next[token]
	if child == nil {
		if n.next == nil {
			n.next = map[string]*tokenNode[T]{}
		}
		child = new(tokenNode[T])
		n.next[token] = child
	}
	if !more {
		child.end = set
		return
	}
	child.insert(behind, set)
}

// drop removes a pattern that is there, and the nodes that are of no use any more.
func (n *tokenNode[T]) drop(pattern string) {
	token, behind, more := cutToken(pattern)
	if token == restTokens {
		n.rest = nil
		return
	}
	child := n.next[token]
	if more {
		child.drop(behind)
	} else {
		child.end = nil
	}
	if len(child.next) == 0 && child.end == nil && child.rest == nil {
		delete(n.next, token)
	}
}

// match appends the sets whose patterns match the tokens of topic; written says that the first one must be written out in the pattern.
func (n *tokenNode[T]) match(topic string, written bool, sets *[]*valueSet[T]) {
	if n.rest != nil && !written {
		*sets = append(*sets, n.rest)
	}
	token, behind, more := cutToken(topic)
	if child := n.next[token]; child != nil {
		child.matchBehind(behind, more, sets)
	}
	if child := n.next[anyToken]; child != nil && !written {
		child.matchBehind(behind, more, sets)
	}
}

func (n *tokenNode[T]) matchBehind(topic string, more bool, sets *[]*valueSet[T]) {
	switch {
	case more:
		n.match(topic, false, sets)
	case n.end != nil:
		*sets = append(*sets, n.end)
	}
}

// foundCache remembers what search found for the last topics, which also saves from matching expressions and from comparing values again.
// It is safe for concurrent use.  The zero value is empty.
type foundCache[T comparable] struct {
	mu            sync.Mutex
	recent, older map[string][]T // older is what recent was when it was full
	values        int            // in recent
}

// The bounds of each half of a foundCache.
const (
	maxCachedTopics = 1024
	maxCachedValues = 1 << 16
)

func (c *foundCache[T]) load(topic string) ([]T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if values, ok := c.recent[topic]; ok {
		return values, true
	}
	values, ok := c.older[topic]
	if ok {
		delete(c.older, topic)
		c.storeLocked(topic, values)
	}
	return values, ok
}

func (c *foundCache[T]) store(topic string, values []T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.storeLocked(topic, values)
}

func (c *foundCache[T]) storeLocked(topic string, values []T) {
	if _, ok := c.recent[topic]; ok || len(values) > maxCachedValues {
		return
	}
	if len(c.recent) >= maxCachedTopics || c.values+len(values) > maxCachedValues {
		c.recent, c.older, c.values = c.older, c.recent, 0
		clear(c.recent)
	}
	if c.recent == nil {
		c.recent = make(map[string][]T)
	}
	c.recent[topic] = values
	c.values += len(values)
}

// forget drops what a change of the values of p makes wrong: for a topic that is what else was found for it, otherwise all.
func (c *foundCache[T]) forget(p Pattern) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.kind() == topicKind {
		c.values -= len(c.recent[p.body()])
		delete(c.recent, p.body())
		delete(c.older, p.body())
		return
	}
	clear(c.recent)
	clear(c.older)
	c.values = 0
}
