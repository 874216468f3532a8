package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The source package that has the examples.  It is MIT-licensed, by Irmen de Jong; nothing of it is kept in this repository.
const (
	sourceName     = "pyro5-5.17.tar.gz"
	sourceRequired = "Pyro5==5.17"
	sourceSum      = "cfac69638d80943aff9cc5f1466755dd0fef8aed0bb4bda41b5eb045818ce6fc" // SHA-256
	maxSourceBytes = 64 << 20                                                           // unpacked
)

// fetchSource returns the path of the source package in the folder, where pip puts it if it is not there.
func fetchSource(ctx context.Context, python, folder string) (string, error) {
	path := filepath.Join(folder, sourceName)
	err := checkSum(path)
	if !errors.Is(err, os.ErrNotExist) {
		return path, err
	}
	pip := exec.CommandContext(ctx, python, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
		"--no-binary", ":all:", "-d", folder, sourceRequired)
	if out, err := pip.CombinedOutput(); err != nil {
		return "", fmt.Errorf("pip download %s: %w\n%s", sourceRequired, err, out)
	}
	return path, checkSum(path)
}

func checkSum(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	if got := hex.EncodeToString(sum[:]); got != sourceSum {
		return fmt.Errorf("%s has the SHA-256 %s, want %s: remove it", path, got, sourceSum)
	}
	return nil
}

// unpack writes the package's examples, and the certificates that they use, below dir, and returns the folder of the examples.
func unpack(source, dir string) (string, error) {
	f, err := os.Open(source)
	if err != nil {
		return "", err
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return "", fmt.Errorf("%s: %w", source, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if err := unpackAll(root, tar.NewReader(io.LimitReader(unzipped, maxSourceBytes))); err != nil {
		return "", fmt.Errorf("%s: %w", source, err)
	}
	return filepath.Join(dir, "examples"), nil
}

func unpackAll(root *os.Root, in *tar.Reader) error {
	for {
		header, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		_, name, _ := strings.Cut(header.Name, "/") // without the package's own folder
		wanted := strings.HasPrefix(name, "examples/") || strings.HasPrefix(name, "certs/")
		if !wanted || header.Typeflag != tar.TypeReg {
			continue
		}
		if err := writeFile(root, name, in); err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, in io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Close())
}
