package core

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// serverTLS makes a connection speak TLS, from its first read or write on.
func (d *Daemon) serverTLS(nc net.Conn) net.Conn {
	if d.opts.TLS == nil {
		return nc
	}
	return tls.Server(nc, d.opts.TLS)
}

// checkServerTLS refuses a configuration that no client could connect to, and versions that Python's default refuses, too.
func checkServerTLS(c *tls.Config) (*tls.Config, error) {
	if c == nil {
		return nil, nil
	}
	if len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil {
		return nil, errors.New("core: DaemonOptions.TLS has no certificate")
	}
	return modernTLS(c), nil
}

// modernTLS is a configuration that refuses versions before 1.2.
func modernTLS(c *tls.Config) *tls.Config {
	if c.MinVersion >= tls.VersionTLS12 {
		return c
	}
	c = c.Clone()
	c.MinVersion = tls.VersionTLS12
	return c
}

// handshakeTLS does the handshake of TLS, if there is one, under the deadline that is set.  A client of Pyro that speaks without TLS
// is told so.
func (c *serverConn) handshakeTLS(ctx context.Context) error {
	tc, ok := c.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	err := tc.HandshakeContext(ctx)
	if err == nil {
		state := tc.ConnectionState()
		c.tls = &state
		return nil
	}
	if plain, ok := errors.AsType[tls.RecordHeaderError](err); ok && plain.Conn != nil && string(plain.RecordHeader[:4]) == headerTag {
		refusePlain(plain.Conn)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) { // so that the alert is not lost
		hangUp(tc.NetConn())
	}
	return fmt.Errorf("TLS: %w", err)
}

// refusePlain answers CONNECT without TLS.
func refusePlain(nc net.Conn) {
	payload, err := appendRefusal(nil, marshalID, reasonNoTLS)
	if err != nil {
		return
	}
	if out, err := appendMessage(nil, header{typ: msgConnectFail, serializer: marshalID}, nil, payload); err == nil {
		nc.Write(out) // as far as the client takes it
	}
}

// hangUp ends the sending side and waits a little for the client's end: a connection that is closed with bytes unread is reset,
// and the client may lose what it was told.
func hangUp(nc net.Conn) {
	if half, ok := nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		nc.SetReadDeadline(time.Now().Add(lingerTimeout))
		io.CopyN(io.Discard, nc, lingerBytes)
	}
}

// cut closes a connection without the goodbye of TLS, which the peer might not take.
func (c *serverConn) cut() {
	if tc, ok := c.nc.(*tls.Conn); ok {
		tc.NetConn().Close()
		return
	}
	c.nc.Close()
}

// PeerCertificate is the certificate that the client showed and that was verified; nil without one.
func (i *CallInfo) PeerCertificate() *x509.Certificate {
	if i == nil || i.TLS == nil || len(i.TLS.VerifiedChains) == 0 {
		return nil
	}
	return i.TLS.PeerCertificates[0]
}

// clientTLS does the handshake of TLS as a client, if the options ask for TLS.
func (o *ProxyOptions) clientTLS(ctx context.Context, nc net.Conn, address string) (net.Conn, error) {
	config := o.TLS
	if o.TLSSource != nil {
		config = o.TLSSource()
	}
	if config == nil {
		return nc, nil
	}
	config = modernTLS(config)
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	if o.TLSCommonName && !config.InsecureSkipVerify {
		config = acceptCommonName(config)
	}
	tc := tls.Client(nc, config)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, explainTLS(err, config.ServerName)
	}
	return tc, nil
}

// acceptCommonName returns a configuration that verifies servers as Python does (OpenSSL, X509_check_host): the common name counts if
// the certificate has no DNS name, and the host is not an address.
func acceptCommonName(config *tls.Config) *tls.Config {
	c := config.Clone()
	c.InsecureSkipVerify = true // what follows verifies
	c.VerifyConnection = func(state tls.ConnectionState) error {
		options := x509.VerifyOptions{Roots: config.RootCAs, Intermediates: x509.NewCertPool()}
		if config.Time != nil {
			options.CurrentTime = config.Time()
		}
		for _, cert := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(cert)
		}
		leaf := state.PeerCertificates[0]
		var err error
		if state.VerifiedChains, err = leaf.Verify(options); err == nil {
			err = verifyName(leaf, config.ServerName)
		}
		if err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
		}
		if config.VerifyConnection != nil {
			return config.VerifyConnection(state)
		}
		return nil
	}
	return c
}

func verifyName(leaf *x509.Certificate, host string) error {
	err := leaf.VerifyHostname(host)
	if err == nil || len(leaf.DNSNames) > 0 {
		return err
	}
	named := &x509.Certificate{DNSNames: []string{leaf.Subject.CommonName}}
	if named.VerifyHostname(host) == nil { // never, if it is an address
		return nil
	}
	return err
}

// explainTLS says what to do about the failures that the texts of crypto/tls leave open.
func explainTLS(err error, host string) error {
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		leaf := e.Certificate
		if name := leaf.Subject.CommonName; name != "" && len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
			kind := "DNS"
			if net.ParseIP(host) != nil {
				kind = "IP"
			}
			return fmt.Errorf("%w: the server's certificate has a common name alone, %q: issue one with the subject alternative name %s:%s, "+
				"or set ProxyOptions.TLSCommonName if the common name is the host", err, name, kind, host)
		}
	}
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok && strings.HasPrefix(string(e.RecordHeader[:]), headerTag) {
		return fmt.Errorf("%w: the server speaks Pyro without TLS", err)
	}
	return err
}
