// Package auth has checks of clients for [core.DaemonOptions.ValidateHandshake]: where they come from, what they know, what they
// can sign, what certificate they show.
//
//	users, err := auth.NewPasswords(auth.PasswordOptions{File: "users"})
//	...
//	opts := core.DaemonOptions{ValidateHandshake: auth.Require(users.Check)}
//
// A client sends what it is asked for as the handshake of its connections: [core.ProxyOptions.Handshake] and
// [core.ProxyOptions.Credentials] in Go, proxy._pyroHandshake in Python.  It is a dict with what the checks look for ("secret", "user"
// and "password", "token"), or the secret or token alone.
//
// Secrets and passwords cross the network as they are: use TLS wherever that is not a loopback interface.  See docs/security.md.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Check judges a new client, by its handshake and by the [core.CallInfo] of ctx.  Its error refuses the client, who gets the text.  A check
// that knows who the client is says so by [core.SetPrincipal].
type Check func(ctx context.Context, handshake any) error

// Denied is the refusal of a client who is not told why: the text is "access denied" for all reasons.  The client has a [core.ErrNotAdmitted].
type Denied struct {
	Reason string // for the log
}

// Error is what the client is told.
func (*Denied) Error() string { return "access denied" }

// LogValue is what the log is told.
func (d *Denied) LogValue() slog.Value { return slog.StringValue(d.Error() + ": " + d.Reason) }

func denied(format string, args ...any) error { return &Denied{fmt.Sprintf(format, args...)} }

// Require makes a validator for a daemon.  It answers "hello", as Pyro5 does, to clients that pass all checks.
func Require(checks ...Check) func(ctx context.Context, handshake any) (any, error) {
	check := All(checks...)
	return func(ctx context.Context, handshake any) (any, error) { return "hello", check(ctx, handshake) }
}

// All passes clients that pass each of the checks, which are made in this order until one fails.
func All(checks ...Check) Check {
	return func(ctx context.Context, handshake any) error {
		for _, check := range checks {
			if err := check(ctx, handshake); err != nil {
				return err
			}
		}
		return nil
	}
}

// Any passes clients that pass one of the checks, which are made in this order until one succeeds.  Without checks nobody passes.
func Any(checks ...Check) Check {
	return func(ctx context.Context, handshake any) error {
		principal := principalOf(ctx)
		var reasons []string
		var told error
		for _, check := range checks {
			err := check(ctx, handshake)
			if err == nil {
				return nil
			}
			core.SetPrincipal(ctx, principal) // who failed elsewhere is nobody
			if d, ok := errors.AsType[*Denied](err); ok {
				reasons = append(reasons, d.Reason)
			} else if told == nil {
				told = err
			}
		}
		if told != nil {
			return told
		}
		return denied("%s", strings.Join(reasons, "; "))
	}
}

func principalOf(ctx context.Context) string {
	if info := core.CallInfoFrom(ctx); info != nil {
		return info.Principal
	}
	return ""
}

// From passes clients with an address in one of the networks ("10.0.0.0/8", "2001:db8::/32", or an address alone); the word "unix"
// stands for those of unix sockets.
func From(networks ...string) (Check, error) {
	var prefixes []netip.Prefix
	unix := false
	for _, n := range networks {
		if n == "unix" {
			unix = true
			continue
		}
		p, err := parseNetwork(n)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, p)
	}
	return func(ctx context.Context, _ any) error {
		info := core.CallInfoFrom(ctx)
		if info == nil || info.Peer == nil {
			return denied("address unknown")
		}
		if _, ok := info.Peer.(*net.UnixAddr); ok && unix {
			return nil
		}
		peer, err := netip.ParseAddrPort(info.Peer.String())
		if err != nil {
			return denied("address %s is not in %v", info.Peer, networks)
		}
		address := peer.Addr().Unmap().WithZone("")
		if !slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(address) }) {
			return denied("address %s is not in %v", address, networks)
		}
		return nil
	}, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("auth: network %q: want an address, address/bits, or unix", text)
	}
	return p.Masked(), nil
}

// Secret passes clients that know one of the secrets: several while one replaces another.
func Secret(secrets ...string) (Check, error) {
	if len(secrets) == 0 || slices.Contains(secrets, "") {
		return nil, errors.New("auth: the secret is empty")
	}
	hashes := make([][sha256.Size]byte, len(secrets))
	for i, s := range secrets {
		hashes[i] = sha256.Sum256([]byte(s))
	}
	return func(_ context.Context, handshake any) error {
		given, ok := field(handshake, "secret")
		// Hashes have one length, so that the time tells nothing, not even the secret's length.
		hash, known := sha256.Sum256([]byte(given)), 0
		for _, h := range hashes {
			known |= subtle.ConstantTimeCompare(hash[:], h[:])
		}
		switch {
		case !ok:
			return denied("no secret")
		case known != 1:
			return denied("wrong secret")
		}
		return nil
	}, nil
}

// Certificate passes clients that show a certificate with one of the names: a DNS name, an e-mail address, a URI, or, of a certificate without
// any of these, its common name.  The name becomes the client's principal.  The daemon's TLS configuration decides which authorities
// are trusted; without a client's certificate there, nobody passes.
func Certificate(names ...string) Check {
	names = slices.Clone(names)
	return func(ctx context.Context, _ any) error {
		cert := core.CallInfoFrom(ctx).PeerCertificate()
		if cert == nil {
			return denied("no certificate")
		}
		given := slices.Concat(cert.DNSNames, cert.EmailAddresses)
		for _, u := range cert.URIs {
			given = append(given, u.String())
		}
		if len(given) == 0 {
			given = append(given, cert.Subject.CommonName)
		}
		i := slices.IndexFunc(given, func(name string) bool { return name != "" && slices.Contains(names, name) })
		if i < 0 {
			return denied("certificate of %q", given)
		}
		core.SetPrincipal(ctx, given[i])
		return nil
	}
}

// field returns a text of the handshake: of a dict the item, of anything else the text that it is.
func field(handshake any, name string) (string, bool) {
	if dict, ok := handshake.(map[string]any); ok {
		return text(dict[name])
	}
	return text(handshake)
}

func text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case []byte:
		return string(v), true
	}
	return "", false
}
