package core_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// A server that asks its clients for a certificate, and tells them whose it was.  Both read PEM files, which may change while they run.
func ExampleTLSFiles() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := writeCertificates(dir); err != nil { // docs/security.md has the commands
		log.Fatal(err)
	}
	files, err := core.NewTLSFiles(core.TLSFileOptions{
		Cert: filepath.Join(dir, "joe.pem"), Key: filepath.Join(dir, "joe.key"), CA: filepath.Join(dir, "joe.pem"),
	})
	if err != nil {
		log.Fatal(err)
	}

	d, err := core.Listen("localhost:0", core.DaemonOptions{Advertise: "localhost", TLS: files.Server()})
	if err != nil {
		log.Fatal(err)
	}
	greeter := &core.Servant{Class: "Greeter", Methods: []core.Method{{Name: "greet", Func: func(ctx context.Context, _ []any) (any, error) {
		return "hello " + core.CallInfoFrom(ctx).PeerCertificate().Subject.CommonName, nil
	}}}}
	uri, err := d.Register("greeter", greeter, core.ObjectOptions{})
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.Serve(context.Background()) }()

	p := core.NewProxy(uri, core.ProxyOptions{TLSSource: files.Config})
	var greeting string
	if err := p.Call(context.Background(), "greet", &greeting); err != nil {
		log.Fatal(err)
	}
	fmt.Println(greeting)

	stranger := core.NewProxy(uri, core.ProxyOptions{})
	err = stranger.Call(context.Background(), "greet", &greeting)
	fmt.Println("without TLS:", errors.Is(err, core.CommunicationError))

	if err := errors.Join(p.Close(), stranger.Close(), d.Close(), <-served); err != nil {
		log.Fatal(err)
	}
	// Output:
	// hello joe
	// without TLS: true
}

// writeCertificates writes a certificate that is its own authority, and its key.
func writeCertificates(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "joe"}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "joe.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(filepath.Join(dir, "joe.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}
