package fsm

import (
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"testing"
)

func TestTreeAgainstMap(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewSource(*seed))
	type version struct {
		tree tree[string, int]
		twin map[string]int
	}
	var v version
	v.twin = map[string]int{}
	var old []version
	for step := range 4000 {
		key := fmt.Sprint(r.Intn(500))
		if r.Intn(5) < 2+step/1000%2 { // now growing, now shrinking
			v.tree = v.tree.remove(key)
			delete(v.twin, key)
		} else {
			v.tree = v.tree.put(key, step+1)
			v.twin[key] = step + 1
		}
		if step%97 == 0 {
			old = append(old, version{v.tree, maps.Clone(v.twin)})
		}
		if got, ok := v.tree.get(key); ok != (v.twin[key] != 0) || got != v.twin[key] {
			t.Fatalf("seed %d step %d: get %q = %d, %t, want %d", *seed, step, key, got, ok, v.twin[key])
		}
	}
	for i, v := range append(old, v) { // the old versions are what they were
		checkTree(t, fmt.Sprintf("seed %d version %d", *seed, i), v.tree, v.twin)
	}
}

func checkTree(t *testing.T, what string, tr tree[string, int], want map[string]int) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(want))
	if tr.len() != len(keys) {
		t.Fatalf("%s: len %d, want %d", what, tr.len(), len(keys))
	}
	var got []string
	for k, v := range tr.all() {
		if got = append(got, k); v != want[k] {
			t.Fatalf("%s: %q has %d, want %d", what, k, v, want[k])
		}
	}
	if !slices.Equal(got, keys) {
		t.Fatalf("%s: keys %q, want %q", what, got, keys)
	}
	for _, from := range []string{"", "2", "25", "250", "3", "9999"} {
		got = nil
		for k := range tr.from(from) {
			got = append(got, k)
		}
		i, _ := slices.BinarySearch(keys, from)
		if !slices.Equal(got, keys[i:]) {
			t.Fatalf("%s: from %q: %q, want %q", what, from, got, keys[i:])
		}
	}
	checkBalance(t, what, tr.root)
}

func checkBalance(t *testing.T, what string, n *treeNode[string, int]) {
	t.Helper()
	if n == nil {
		return
	}
	l, r := n.left.len(), n.right.len()
	if n.size != l+r+1 {
		t.Fatalf("%s: %q has size %d over %d and %d", what, n.key, n.size, l, r)
	}
	if l+r >= 2 && (l > treeDelta*r || r > treeDelta*l) {
		t.Fatalf("%s: %q is out of balance: %d and %d", what, n.key, l, r)
	}
	checkBalance(t, what, n.left)
	checkBalance(t, what, n.right)
}

// Whatever the order of the keys, the tree stays shallow: an attacker cannot make it a list.
func TestTreeStaysShallow(t *testing.T) {
	t.Parallel()
	const n = 20_000
	orders := map[string]func(i int) int{
		"ascending":   func(i int) int { return i },
		"descending":  func(i int) int { return n - i },
		"alternating": func(i int) int { return i*(i%2*2-1) + n },
	}
	for name, order := range orders {
		var tr tree[int, bool]
		for i := range n {
			tr = tr.put(order(i), true)
		}
		if d := depth(tr.root); d > 36 { // log(n) / log(4/3) at the very worst
			t.Errorf("%s: depth %d of %d keys", name, d, n)
		}
	}
}

func depth[K ~int, V any](n *treeNode[K, V]) int {
	if n == nil {
		return 0
	}
	return 1 + max(depth(n.left), depth(n.right))
}

func TestTreeOf(t *testing.T) {
	t.Parallel()
	var pairs []pair[string, int]
	want := map[string]int{}
	for i := range 200 {
		checkTree(t, fmt.Sprint(i, " pairs"), treeOf(pairs), want)
		key := fmt.Sprintf("%04d", i)
		pairs = append(pairs, pair[string, int]{key, i + 1})
		want[key] = i + 1
	}
}

func TestTreeIterationStops(t *testing.T) {
	t.Parallel()
	var tr tree[int, int]
	for i := range 100 {
		tr = tr.put(i, i)
	}
	var got []int
	for k := range tr.from(40) {
		if got = append(got, k); k == 42 {
			break
		}
	}
	if want := []int{40, 41, 42}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
