package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/core/auth"
)

// systemCA is the --tls-ca that means the authorities of the operating system.
const systemCA = "system"

// security is what the flags say about TLS and the shared secret.
type security struct {
	cert, key, ca string
	commonName    bool
	secretFile    string
}

// securityFlags are the names of the flags, for commands to which they mean nothing.
var securityFlags = []string{"tls-ca", "tls-cert", "tls-key", "tls-common-name", "secret-file"}

func (s *security) add(flags *pflag.FlagSet) {
	flags.StringVar(&s.ca, "tls-ca", "", "connect by TLS to those who have certificates of the authorities in this PEM `file` or directory; system: those of the operating system")
	flags.StringVar(&s.cert, "tls-cert", "", "PEM `file` with the own certificate, for TLS")
	flags.StringVar(&s.key, "tls-key", "", "PEM `file` with the key of --tls-cert")
	flags.BoolVar(&s.commonName, "tls-common-name", false, "accept servers whose certificate has the host as common name alone, as Python does")
	flags.StringVar(&s.secretFile, "secret-file", "", "`file` whose first line is the secret that clients have to know")
}

func (s *security) check() error {
	switch {
	case (s.cert == "") != (s.key == ""):
		return usageError(errors.New("--tls-cert and --tls-key belong together"), "give both or none")
	case s.commonName && s.ca == "":
		return usageError(errors.New("--tls-common-name without --tls-ca"), "say with --tls-ca whom to trust")
	}
	return nil
}

// client returns options for connections to nodes.
func (s *security) client() (core.ProxyOptions, error) {
	opts := core.ProxyOptions{TLSCommonName: s.commonName}
	if err := s.check(); err != nil {
		return opts, err
	}
	if s.cert != "" && s.ca == "" {
		return opts, usageError(errors.New("--tls-cert without --tls-ca"), "say with --tls-ca whom to trust")
	}
	var err error
	if opts.TLSSource, err = s.source(nil); err != nil {
		return opts, err
	}
	secret, err := s.secret()
	if secret != "" {
		opts.Handshake = secret
	}
	return opts, err
}

// withoutSecret returns options for connections to others than nodes: the secret is the nodes' alone.
func withoutSecret(opts core.ProxyOptions) core.ProxyOptions {
	opts.Handshake = nil
	return opts
}

// source returns where a client's configuration for TLS comes from; nil without --tls-ca.
func (s *security) source(log *slog.Logger) (func() *tls.Config, error) {
	if s.ca == "" {
		return nil, nil
	}
	ca := s.ca
	if ca == systemCA {
		ca = ""
	}
	files, err := tlsFiles("--tls-ca, --tls-cert and --tls-key", core.TLSFileOptions{Cert: s.cert, Key: s.key, CA: ca, Logger: log})
	if err != nil {
		return nil, err
	}
	return files.Config, nil
}

// secret returns the first line of --secret-file; empty without the flag.
func (s *security) secret() (string, error) {
	if s.secretFile == "" {
		return "", nil
	}
	return firstLine("--secret-file", s.secretFile)
}

// firstLine returns that of a file with a secret that a flag names.
func firstLine(flag, file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", usageError(fmt.Errorf("%s: %w", flag, err), "name a file with the secret in its first line")
	}
	defer f.Close()
	line := bufio.NewScanner(f)
	line.Scan()
	secret := strings.TrimSpace(line.Text())
	if err := line.Err(); err != nil || secret == "" {
		return "", usageError(fmt.Errorf("%s %s has no secret", flag, file), "write it into the first line")
	}
	return secret, nil
}

// server puts what a node asks of its clients into opts.
func (s *security) server(clientCA string, log *slog.Logger, opts *core.DaemonOptions) error {
	if err := s.check(); err != nil {
		return err
	}
	if clientCA != "" && s.cert == "" {
		return usageError(errors.New("--tls-client-ca without --tls-cert"), "give the node a certificate with --tls-cert and --tls-key")
	}
	if s.cert != "" {
		files, err := tlsFiles("--tls-cert, --tls-key and --tls-client-ca", core.TLSFileOptions{Cert: s.cert, Key: s.key, CA: clientCA, Logger: log})
		if err != nil {
			return err
		}
		opts.TLS = files.Server()
	}
	secret, err := s.secret()
	if err != nil || secret == "" {
		return err
	}
	check, err := auth.Secret(secret)
	opts.ValidateHandshake = auth.Require(check)
	return err
}

// tlsFiles reads the files of some flags.
func tlsFiles(flags string, opts core.TLSFileOptions) (*core.TLSFiles, error) {
	files, err := core.NewTLSFiles(opts)
	if err != nil {
		return nil, usageError(fmt.Errorf("%s: %w", flags, err), "give PEM files that belong together")
	}
	return files, nil
}
