package fsm

import (
	"cmp"
	"iter"
)

// tree is an immutable ordered map: put and remove return a new tree that shares all but a path of nodes with the old one, which
// stays as it was.  The zero value is empty.
//
// It is a weight-balanced tree (Adams, "Efficient sets: a balancing act", 1993) with the parameters that Hirai and
// Yamamoto proved sound ("Balancing weight-balanced trees", 2011).  Unlike a treap it has no bad inputs: whoever chooses the
// names cannot make it deep.
type tree[K cmp.Ordered, V any] struct{ root *treeNode[K, V] }

type treeNode[K cmp.Ordered, V any] struct {
	key         K
	value       V
	size        int // of the subtree
	left, right *treeNode[K, V]
}

// A subtree has at most treeDelta times the size of its sibling; treeRatio chooses between a single and a double rotation.
const (
	treeDelta = 3
	treeRatio = 2
)

func (t tree[K, V]) len() int { return t.root.len() }

func (n *treeNode[K, V]) len() int {
	if n == nil {
		return 0
	}
	return n.size
}

func (t tree[K, V]) get(key K) (V, bool) {
	for n := t.root; n != nil; {
		switch c := cmp.Compare(key, n.key); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n.value, true
		}
	}
	var zero V
	return zero, false
}

// first returns the smallest key; the tree must not be empty.
func (t tree[K, V]) first() (K, V) {
	n := t.root
	for n.left != nil {
		n = n.left
	}
	return n.key, n.value
}

func (t tree[K, V]) put(key K, value V) tree[K, V] {
	return tree[K, V]{t.root.put(key, value)}
}

func (n *treeNode[K, V]) put(key K, value V) *treeNode[K, V] {
	if n == nil {
		return newNode(key, value, nil, nil)
	}
	switch c := cmp.Compare(key, n.key); {
	case c < 0:
		return balance(n, n.left.put(key, value), n.right)
	case c > 0:
		return balance(n, n.left, n.right.put(key, value))
	default:
		return newNode(key, value, n.left, n.right)
	}
}

// remove returns the same tree if key is not in it.
func (t tree[K, V]) remove(key K) tree[K, V] {
	return tree[K, V]{t.root.remove(key)}
}

func (n *treeNode[K, V]) remove(key K) *treeNode[K, V] {
	if n == nil {
		return nil
	}
	switch c := cmp.Compare(key, n.key); {
	case c < 0:
		if left := n.left.remove(key); left != n.left {
			return balance(n, left, n.right)
		}
	case c > 0:
		if right := n.right.remove(key); right != n.right {
			return balance(n, n.left, right)
		}
	default:
		return n.left.glue(n.right)
	}
	return n
}

// glue joins two siblings whose parent goes.
func (n *treeNode[K, V]) glue(right *treeNode[K, V]) *treeNode[K, V] {
	if n == nil {
		return right
	}
	if right == nil {
		return n
	}
	least, rest := right.takeFirst()
	return balance(least, n, rest)
}

func (n *treeNode[K, V]) takeFirst() (first, rest *treeNode[K, V]) {
	if n.left == nil {
		return n, n.right
	}
	first, rest = n.left.takeFirst()
	return first, balance(n, rest, n.right)
}

// from goes through the keys that are not smaller than key, in order.
func (t tree[K, V]) from(key K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.root.from(key, yield) }
}

func (n *treeNode[K, V]) from(key K, yield func(K, V) bool) bool {
	if n == nil {
		return true
	}
	if n.key < key {
		return n.right.from(key, yield)
	}
	return n.left.from(key, yield) && yield(n.key, n.value) && n.right.all(yield)
}

func (t tree[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.root.all(yield) }
}

func (n *treeNode[K, V]) all(yield func(K, V) bool) bool {
	return n == nil || n.left.all(yield) && yield(n.key, n.value) && n.right.all(yield)
}

// pair is a key and its value, to build a tree from.
type pair[K cmp.Ordered, V any] struct {
	key   K
	value V
}

// treeOf builds a tree from pairs with strictly ascending keys in linear time.
func treeOf[K cmp.Ordered, V any](pairs []pair[K, V]) tree[K, V] {
	return tree[K, V]{nodeOf(pairs)}
}

func nodeOf[K cmp.Ordered, V any](pairs []pair[K, V]) *treeNode[K, V] {
	if len(pairs) == 0 {
		return nil
	}
	mid := len(pairs) / 2
	return newNode(pairs[mid].key, pairs[mid].value, nodeOf(pairs[:mid]), nodeOf(pairs[mid+1:]))
}

func newNode[K cmp.Ordered, V any](key K, value V, left, right *treeNode[K, V]) *treeNode[K, V] {
	return &treeNode[K, V]{key: key, value: value, size: left.len() + right.len() + 1, left: left, right: right}
}

// balance returns a node with the key and value of n above left and right, of which one may have become too large or too small by
// one key.
func balance[K cmp.Ordered, V any](n, left, right *treeNode[K, V]) *treeNode[K, V] {
	l, r := left.len(), right.len()
	switch {
	case l+r < 2:
		return newNode(n.key, n.value, left, right)
	case r > treeDelta*l:
		return rotateLeft(n, left, right)
	case l > treeDelta*r:
		return rotateRight(n, left, right)
	default:
		return newNode(n.key, n.value, left, right)
	}
}

func rotateLeft[K cmp.Ordered, V any](n, left, right *treeNode[K, V]) *treeNode[K, V] {
	mid := right.left
	if mid.len() < treeRatio*right.right.len() {
		return newNode(right.key, right.value, newNode(n.key, n.value, left, mid), right.right)
	}
	return newNode(mid.key, mid.value,
		newNode(n.key, n.value, left, mid.left),
		newNode(right.key, right.value, mid.right, right.right))
}

func rotateRight[K cmp.Ordered, V any](n, left, right *treeNode[K, V]) *treeNode[K, V] {
	mid := left.right
	if mid.len() < treeRatio*left.left.len() {
		return newNode(left.key, left.value, left.left, newNode(n.key, n.value, mid, right))
	}
	return newNode(mid.key, mid.value,
		newNode(left.key, left.value, left.left, mid.left),
		newNode(n.key, n.value, mid.right, right))
}
