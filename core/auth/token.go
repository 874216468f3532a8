package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

const (
	defaultSkew = 30 * time.Second
	minKeyBytes = 16
	maxToken    = 512
	// maxRemembered bounds the tokens that are remembered at a time, some 100 bytes each.  Only who has a key makes more.
	maxRemembered = 1 << 18
)

// A token is text, "p1:NAME:TIME:NONCE:SIGNATURE": who signed it, the seconds since 1970, random letters, and the HMAC-SHA256 of all before
// the last colon, in hexadecimal digits.
const tokenVersion = "p1"

// Signer makes tokens for a client whose key the server knows, too; the key itself is never sent.
type Signer struct {
	Name string // as the server knows it; without a colon
	Key  []byte // 16 bytes at least, random
}

// Credentials is for [core.ProxyOptions.Credentials]: a new token for each connection.
func (s Signer) Credentials(context.Context) (any, error) {
	token, err := s.Token()
	return map[string]any{"token": token}, err
}

// Token returns a token that is good now, and once.
func (s Signer) Token() (string, error) {
	if len(s.Key) < minKeyBytes || strings.Contains(s.Name, ":") || len(s.Name) > maxToken/2 {
		return "", fmt.Errorf("auth: signer %q with a key of %d bytes: want a short name without colon, and %d bytes or more", s.Name, len(s.Key), minKeyBytes)
	}
	signed := fmt.Sprintf("%s:%s:%d:%s", tokenVersion, s.Name, time.Now().Unix(), rand.Text())
	return signed + ":" + string(sign(s.Key, signed)), nil
}

// sign returns the HMAC-SHA256 of text in hexadecimal digits.
func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return hex.AppendEncode(nil, h.Sum(nil))
}

// TokenOptions set up [Tokens].
type TokenOptions struct {
	// Keys are those of the clients by name, 16 random bytes each at least.
	Keys map[string][]byte
	// Skew is how far the client's clock may be off, to either side.  Zero means 30 s.
	Skew time.Duration
}

// Tokens checks tokens of clients ("token" in the handshake): each is good once, and only around the time at which it was made.  That
// holds for one server; another one with the same keys does not know which tokens were used.
type Tokens struct {
	keys map[string][]byte
	skew time.Duration

	mu        sync.Mutex // protects what follows
	used, old map[string]struct{}
	since     time.Time // used is from then on, old from the time before
}

// NewTokens checks the keys.
func NewTokens(opts TokenOptions) (*Tokens, error) {
	if len(opts.Keys) == 0 {
		return nil, errors.New("auth: tokens without keys")
	}
	for name, key := range opts.Keys {
		if len(key) < minKeyBytes || strings.Contains(name, ":") {
			return nil, fmt.Errorf("auth: key of %q has %d bytes: want a name without colon, and %d bytes or more", name, len(key), minKeyBytes)
		}
	}
	if opts.Skew <= 0 {
		opts.Skew = defaultSkew
	}
	return &Tokens{keys: maps.Clone(opts.Keys), skew: opts.Skew, used: map[string]struct{}{}, since: time.Now()}, nil
}

// Check is a [Check].  The name in the token becomes the client's principal.
func (t *Tokens) Check(ctx context.Context, handshake any) error {
	token, ok := field(handshake, "token")
	if !ok || len(token) > maxToken {
		return denied("no token")
	}
	signed, signature := cutLast(token)
	parts := strings.Split(signed, ":")
	if len(parts) != 4 || parts[0] != tokenVersion {
		return denied("not a token")
	}
	name, at := parts[1], parts[2]
	key, known := t.keys[name]
	if !hmac.Equal([]byte(signature), sign(key, signed)) || !known {
		return denied("token of %.100q has a wrong signature", name)
	}
	// From here on it is a client with a key, who may be told what is wrong.
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return errors.New("the token's time is no number")
	}
	now := time.Now()
	if off := now.Sub(time.Unix(seconds, 0)).Abs(); off > t.skew {
		return fmt.Errorf("the token is for another time (server's clock %s): want it within %v", now.UTC().Format(time.TimeOnly), t.skew)
	}
	if err := t.use(signed, now); err != nil {
		return err
	}
	core.SetPrincipal(ctx, name)
	return nil
}

// use remembers a token for as long as its time would let it pass: twice the skew, if it was made by a clock that is ahead.
func (t *Tokens) use(signed string, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if age := now.Sub(t.since); age > 2*t.skew {
		t.old, t.used, t.since = t.used, map[string]struct{}{}, now
		if age > 4*t.skew {
			t.old = nil
		}
	}
	_, used := t.used[signed]
	_, before := t.old[signed]
	switch {
	case used || before:
		return errors.New("the token was used already")
	case len(t.used) >= maxRemembered:
		return errors.New("too many tokens in a short time")
	}
	t.used[signed] = struct{}{}
	return nil
}

// cutLast cuts around the last colon.
func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i+1:]
}
