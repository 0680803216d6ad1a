package pec

import (
	"bufio"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io"
	"sync"
	"time"

	"ceralacca.dev/services/format/cms"
)

// ChainCache remembers certificate chains that held and between which times all of their
// certificates are valid. It belongs to one set of roots: make a new one when the trust list
// changes. It may be shared by goroutines.
type ChainCache struct {
	mu   sync.Mutex
	held map[[sha256.Size]byte]window
}

type window struct{ from, to time.Time }

// maxChains bounds the cache: there are some tens of providers.
const maxChains = 4096

// known says whether the signer's certificate has a chain that held and is valid at that time.
func (c *ChainCache) known(sd *cms.SignedData, at time.Time) bool {
	if c == nil || len(sd.Signers) != 1 {
		return false
	}
	cert := sd.Signers[0].Certificate(sd.Certificates)
	if cert == nil {
		return false
	}
	c.mu.Lock()
	w, ok := c.held[sha256.Sum256(cert.Raw)]
	c.mu.Unlock()
	return ok && !at.Before(w.from) && !at.After(w.to)
}

func (c *ChainCache) keep(cert *x509.Certificate, chain []*x509.Certificate) {
	if c == nil || cert == nil || len(chain) == 0 {
		return
	}
	w := window{cert.NotBefore, cert.NotAfter}
	for _, link := range chain {
		if link.NotBefore.After(w.from) {
			w.from = link.NotBefore
		}
		if link.NotAfter.Before(w.to) {
			w.to = link.NotAfter
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil || len(c.held) >= maxChains {
		c.held = map[[sha256.Size]byte]window{}
	}
	c.held[sha256.Sum256(cert.Raw)] = w
}

// countingReader keeps the source's error, which the CMS report would take for the message's fault.
type countingReader struct {
	in  io.Reader
	err error
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// copyBuffers are what signed bytes pass through.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// WriteTo spares io.Copy a buffer for each message.
func (c *countingReader) WriteTo(w io.Writer) (int64, error) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	var total int64
	for {
		n, err := c.Read(*buf)
		if n > 0 {
			if _, werr := w.Write((*buf)[:n]); werr != nil {
				return total, werr
			}
			total += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// crlfReader turns a bare LF into CRLF.
type crlfReader struct {
	in   *bufio.Reader
	last byte
	owed bool
}

func (c *crlfReader) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		if c.owed {
			b[n], c.owed, c.last = '\n', false, '\n'
			n++
			continue
		}
		ch, err := c.in.ReadByte()
		if err != nil {
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
		if ch == '\n' && c.last != '\r' {
			b[n], c.owed = '\r', true
		} else {
			b[n], c.last = ch, ch
		}
		n++
	}
	return n, nil
}
