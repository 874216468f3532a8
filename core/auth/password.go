package auth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/pyro-cluster/pyro-cluster/core"
)

const (
	defaultIterations = 600_000 // OWASP's advice for PBKDF2-HMAC-SHA256
	maxIterations     = 10_000_000
	saltBytes         = 16
	maxPassword       = 1 << 10
	// maxHashing is how many passwords are hashed at a time: who guesses gets no more of the processors.
	maxHashing = 2

	hashScheme = "pbkdf2-sha256"
)

// passlib's base64: no padding, "." for "+".
var hashEncoding = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./").WithPadding(base64.NoPadding)

// PasswordOptions set up [Passwords].
type PasswordOptions struct {
	// File has a line for each user, NAME:HASH; empty lines and those that begin with # mean nothing.  A hash is what [HashPassword]
	// and Python's passlib (passlib.hash.pbkdf2_sha256) write.  Changes of the file hold from the next client on; while it
	// cannot be read, what was read before does.
	File string
	// Logger gets what is wrong with a file that changed; nil discards it.
	Logger *slog.Logger
}

// Passwords checks users and their passwords ("user" and "password" in the handshake).  A password is hashed when a user comes with it
// for the first time; to try many takes the guesser's time, not all of the server's.
type Passwords struct {
	opts    PasswordOptions
	hashing chan struct{} // a token for each hash that is being computed
	memory  [32]byte      // key of what is remembered of passwords that were right

	mu     sync.Mutex // protects what follows
	seen   fs.FileInfo
	users  *users
	failed string // text of the last failure, which is logged once
}

// users are those of one version of the file.
type users struct {
	hashes map[string]hash
	slow   hash // takes as long as any

	mu    sync.Mutex // protects right
	right map[string][]byte
}

type hash struct {
	iterations int
	salt, sum  []byte
}

// NewPasswords reads the file.
func NewPasswords(opts PasswordOptions) (*Passwords, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Passwords{opts: opts, hashing: make(chan struct{}, maxHashing)}
	rand.Read(p.memory[:])
	if err := p.readLocked(); err != nil {
		return nil, err
	}
	return p, nil
}

// HashPassword returns what stands behind the name in a file of [PasswordOptions].
func HashPassword(password string) (string, error) {
	if password == "" || len(password) > maxPassword {
		return "", fmt.Errorf("auth: password of %d bytes: want 1 to %d", len(password), maxPassword)
	}
	return newHash(password, defaultIterations)
}

func newHash(password string, iterations int) (string, error) {
	h := hash{iterations: iterations, salt: make([]byte, saltBytes)}
	rand.Read(h.salt)
	var err error
	if h.sum, err = h.of(password); err != nil {
		return "", err
	}
	return fmt.Sprintf("$%s$%d$%s$%s", hashScheme, h.iterations, hashEncoding.EncodeToString(h.salt), hashEncoding.EncodeToString(h.sum)), nil
}

func (h hash) of(password string) ([]byte, error) {
	sum, err := pbkdf2.Key(sha256.New, password, h.salt, h.iterations, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return sum, nil
}

// Check is a [Check].  The name of the user becomes the client's principal.
func (p *Passwords) Check(ctx context.Context, handshake any) error {
	dict, _ := handshake.(map[string]any)
	name, ok := text(dict["user"])
	password, ok2 := text(dict["password"])
	if !ok || !ok2 || len(password) > maxPassword {
		return denied("no user and password")
	}
	u := p.current()
	h, known := u.hashes[name]
	if !known {
		h = u.slow // so that the time does not tell which users there are
	}
	mac := sign(p.memory[:], name+"\x00"+password)
	if known && u.remembers(name, mac) {
		core.SetPrincipal(ctx, name)
		return nil
	}
	sum, err := p.hash(ctx, h, password)
	if err != nil {
		return err
	}
	if !hmac.Equal(sum, h.sum) || !known {
		return denied("wrong password, or user %.100q is unknown", name)
	}
	u.remember(name, mac)
	core.SetPrincipal(ctx, name)
	return nil
}

// hash computes a hash when it is its turn, or fails when ctx ends before.
func (p *Passwords) hash(ctx context.Context, h hash, password string) ([]byte, error) {
	select {
	case p.hashing <- struct{}{}:
		defer func() { <-p.hashing }()
		return h.of(password)
	case <-ctx.Done():
		return nil, errors.New("too many logins at a time")
	}
}

func (u *users) remembers(name string, mac []byte) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return hmac.Equal(u.right[name], mac)
}

func (u *users) remember(name string, mac []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.right[name] = mac
}

// current returns the users, read again if the file changed.
func (p *Passwords) current() *users {
	p.mu.Lock()
	defer p.mu.Unlock()
	info, err := os.Stat(p.opts.File)
	unchanged := err == nil && info.ModTime().Equal(p.seen.ModTime()) && info.Size() == p.seen.Size() && os.SameFile(info, p.seen)
	if unchanged && p.failed == "" {
		return p.users
	}
	switch err := p.readLocked(); {
	case err == nil:
		p.failed = ""
		p.opts.Logger.Info("users read again", "file", p.opts.File)
	case err.Error() != p.failed:
		p.failed = err.Error()
		p.opts.Logger.Error("users cannot be read; the old ones hold", "error", err)
	}
	return p.users
}

// readLocked reads the file, and looks at it before that, so that a change meanwhile is seen the next time.
func (p *Passwords) readLocked() error {
	info, err := os.Stat(p.opts.File)
	if err != nil {
		return fmt.Errorf("auth: users: %w", err)
	}
	content, err := os.ReadFile(p.opts.File)
	if err != nil {
		return fmt.Errorf("auth: users: %w", err)
	}
	u, err := parseUsers(content)
	if err != nil {
		return fmt.Errorf("auth: users: %s: %w", p.opts.File, err)
	}
	p.seen, p.users = info, u
	return nil
}

func parseUsers(content []byte) (*users, error) {
	u := &users{hashes: map[string]hash{}, right: map[string][]byte{}}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, encoded, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("line %d: want NAME:HASH", n)
		}
		h, err := parseHash(encoded)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if _, twice := u.hashes[name]; twice {
			return nil, fmt.Errorf("line %d: user %q is there already", n, name)
		}
		u.hashes[name] = h
		if h.iterations > u.slow.iterations {
			u.slow = h
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(u.hashes) == 0 {
		return nil, errors.New("no user")
	}
	return u, nil
}

func parseHash(text string) (hash, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 5 || parts[0] != "" || parts[1] != hashScheme {
		return hash{}, fmt.Errorf("hash is no $%s$iterations$salt$sum", hashScheme)
	}
	n, err := strconv.Atoi(parts[2])
	if err != nil || n < 1 || n > maxIterations {
		return hash{}, fmt.Errorf("%.20q iterations: want 1 to %d", parts[2], maxIterations)
	}
	salt, err := hashEncoding.DecodeString(parts[3])
	if err != nil {
		return hash{}, errors.New("salt is no base64")
	}
	sum, err := hashEncoding.DecodeString(parts[4])
	if err != nil || len(sum) != sha256.Size {
		return hash{}, fmt.Errorf("sum has %d bytes, want %d in base64", len(sum), sha256.Size)
	}
	return hash{n, salt, sum}, nil
}
