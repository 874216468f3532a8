package core

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// TLSFileOptions name the PEM files of one side of TLS; Pyro5's settings that mean the same are in brackets.
type TLSFileOptions struct {
	// Cert is the own certificate, followed by those of authorities in between [SSL_SERVERCERT, SSL_CLIENTCERT].  A server needs
	// one; empty means a client that shows none.
	Cert string
	// Key is the private key of Cert, without a passphrase [SSL_SERVERKEY, SSL_CLIENTKEY].  Empty means that Cert holds it, too.
	Key string
	// CA is a file, or a directory of files, with the authorities that sign certificates of the other side [SSL_CACERTS].  Empty
	// means the system's for a client, and for a server that it asks clients for no certificate; with it clients must show
	// one [SSL_REQUIRECLIENTCERT].
	CA string
	// Logger gets what is wrong with files that changed; nil discards it.
	Logger *slog.Logger
}

// TLSFiles are certificates in files that may change: each handshake uses what the files hold then, so that a certificate is
// renewed, and an authority added or dropped, without a restart.  Connections that are open stay.  While changed files cannot be
// used (a certificate without its key, say) the last good ones hold.  Safe for concurrent use.
type TLSFiles struct {
	opts TLSFileOptions

	mu      sync.Mutex // protects what follows
	seen    []fs.FileInfo
	current *tls.Config
	failed  string // text of the last failure, which is logged once
}

// NewTLSFiles reads the files.
func NewTLSFiles(opts TLSFileOptions) (*TLSFiles, error) {
	if opts.Key == "" {
		opts.Key = opts.Cert
	}
	if opts.Cert == "" && opts.Key != "" {
		return nil, errors.New("core: TLS: a key without a certificate")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	f := &TLSFiles{opts: opts}
	if err := f.readLocked(); err != nil {
		return nil, err
	}
	return f, nil
}

// Config returns the configuration of the next handshake, for [ProxyOptions.TLSSource].  It is not to be changed.
func (f *TLSFiles) Config() *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != "" || f.changedLocked() {
		f.reloadLocked()
	}
	return f.current
}

// Server returns a configuration for [DaemonOptions.TLS], and for any other server, that follows the files by itself.
func (f *TLSFiles) Server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.Config(), nil },
	}
}

func (f *TLSFiles) reloadLocked() {
	err := f.readLocked()
	switch {
	case err == nil:
		f.failed = ""
		f.opts.Logger.Info("certificates read again", "cert", f.opts.Cert, "ca", f.opts.CA)
	case err.Error() != f.failed:
		f.failed = err.Error()
		f.opts.Logger.Error("certificates cannot be read; the old ones hold", "error", err)
	}
}

// changedLocked compares the files with those that were read.
func (f *TLSFiles) changedLocked() bool {
	now, err := f.stat()
	return err != nil || !slices.EqualFunc(now, f.seen, func(a, b fs.FileInfo) bool {
		return a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && os.SameFile(a, b)
	})
}

// stat looks at the files; symbolic links are followed, as mounted secrets are replaced by changing one.
func (f *TLSFiles) stat() ([]fs.FileInfo, error) {
	files := make([]string, 0, 3)
	if f.opts.Cert != "" {
		files = append(files, f.opts.Cert, f.opts.Key)
	}
	authorities, err := authorityFiles(f.opts.CA)
	if err != nil {
		return nil, err
	}
	infos := make([]fs.FileInfo, 0, len(files)+len(authorities))
	for _, name := range append(files, authorities...) {
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("core: TLS: %w", err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// readLocked reads the files.  They are looked at before that, so that a change meanwhile is seen the next time.
func (f *TLSFiles) readLocked() error {
	seen, err := f.stat()
	if err != nil {
		return err
	}
	// No session is resumed: a resumed one would outlive the authority that its client was trusted for.
	c := &tls.Config{MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}
	if f.opts.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.opts.Cert, f.opts.Key)
		if err != nil {
			return fmt.Errorf("core: TLS: certificate %s with key %s: %w", f.opts.Cert, f.opts.Key, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if f.opts.CA != "" {
		pool, err := readAuthorities(f.opts.CA)
		if err != nil {
			return err
		}
		c.RootCAs, c.ClientCAs, c.ClientAuth = pool, pool, tls.RequireAndVerifyClientCert
	}
	f.seen, f.current = seen, c
	return nil
}

// authorityFiles returns path, or the files in it if it is a directory.
func authorityFiles(path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("core: TLS: authorities: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("core: TLS: authorities: %w", err)
	}
	var files []string
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			files = append(files, name)
		}
	}
	return files, nil
}

// readAuthorities reads the certificates in a file or directory, of which there must be one.
func readAuthorities(path string) (*x509.CertPool, error) {
	files, err := authorityFiles(path)
	if err != nil {
		return nil, err
	}
	pool, found := x509.NewCertPool(), false
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("core: TLS: authorities: %w", err)
		}
		found = pool.AppendCertsFromPEM(text) || found
	}
	if !found {
		return nil, fmt.Errorf("core: TLS: no certificate in %s, which should hold authorities in PEM", path)
	}
	return pool, nil
}
