// Package tlogtest gives tests of a log two stores, in memory and in a folder, the suite that
// every store of tiles has to pass, and time stamps. It is for tests only and refuses to be of use elsewhere: the
// folder store does not fsync.
package tlogtest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tsp"
)

// Memory is a store in memory. The zero value is empty and ready.
type Memory struct {
	mu    sync.Mutex
	Files map[string][]byte // tests may change what they find here
}

// Get implements tlog.Store.
func (m *Memory) Get(_ context.Context, path string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.Files[path]
	if !ok {
		return nil, tlog.ErrNotFound
	}
	return bytes.Clone(data), nil
}

// Put implements tlog.Store.
func (m *Memory) Put(_ context.Context, path string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.Files[path]; ok && !bytes.Equal(old, data) {
		return tlog.ErrConflict
	}
	if m.Files == nil {
		m.Files = map[string][]byte{}
	}
	m.Files[path] = bytes.Clone(data)
	return nil
}

// Clone is a copy that goes its own way: a backup, or a second history.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &Memory{Files: make(map[string][]byte, len(m.Files))}
	for k, v := range m.Files {
		c.Files[k] = bytes.Clone(v)
	}
	return c
}

// Dir is a store in a folder, as a static file server would serve it.
type Dir string

// Get implements tlog.Store.
func (d Dir) Get(_ context.Context, path string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(string(d), filepath.FromSlash(path)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, tlog.ErrNotFound
	}
	return data, err
}

// Put implements tlog.Store.
func (d Dir) Put(ctx context.Context, path string, data []byte) error {
	name := filepath.Join(string(d), filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if errors.Is(err, fs.ErrExist) {
		old, err := d.Get(ctx, path)
		if err == nil && !bytes.Equal(old, data) {
			err = tlog.ErrConflict
		}
		return err
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// Conform is the contract of tlog.Store. open gives an empty store.
func Conform(t *testing.T, open func(t *testing.T) tlog.Store) {
	t.Run("missing", func(t *testing.T) {
		_, err := open(t).Get(t.Context(), "tile/0/000")
		require.ErrorIs(t, err, tlog.ErrNotFound)
	})
	t.Run("what was put is got", func(t *testing.T) {
		s := open(t)
		data := []byte{1, 2, 3}
		require.NoError(t, s.Put(t.Context(), "tile/0/x001/234.p/3", data))
		data[0] = 9 // the store has its own copy
		got, err := s.Get(t.Context(), "tile/0/x001/234.p/3")
		require.NoError(t, err)
		require.Equal(t, []byte{1, 2, 3}, got)
		_, err = s.Get(t.Context(), "tile/0/x001/234")
		require.ErrorIs(t, err, tlog.ErrNotFound)
	})
	t.Run("a full tile stands beside its partial ones", func(t *testing.T) {
		s := open(t)
		require.NoError(t, s.Put(t.Context(), "tile/0/000.p/1", []byte{1}))
		require.NoError(t, s.Put(t.Context(), "tile/0/000", []byte{1, 2}))
		got, err := s.Get(t.Context(), "tile/0/000.p/1")
		require.NoError(t, err)
		require.Equal(t, []byte{1}, got)
	})
	t.Run("written once", func(t *testing.T) {
		s := open(t)
		require.NoError(t, s.Put(t.Context(), "tile/0/000", []byte{1}))
		require.NoError(t, s.Put(t.Context(), "tile/0/000", []byte{1}))
		require.ErrorIs(t, s.Put(t.Context(), "tile/0/000", []byte{2}), tlog.ErrConflict)
		got, err := s.Get(t.Context(), "tile/0/000")
		require.NoError(t, err)
		require.Equal(t, []byte{1}, got)
	})
}

// Stamp asks a throw-away authority for a token over text, of cmstest.Now.
func Stamp(t testing.TB, pki *cmstest.PKI, text []byte) []byte {
	t.Helper()
	p := pki.Issue(t, "TSA", cmstest.NewECDSA(t), cmstest.TimeStamping)
	a := tsp.Authority{
		Certificate: p.Cert, Chain: p.Chain[1:], Key: p.Key, Policy: asn1.ObjectIdentifier{2, 999, 1},
		Now: func() time.Time { return cmstest.Now }, Serial: func() *big.Int { return big.NewInt(7) },
	}
	sum := sha256.Sum256(text)
	req, err := (&tsp.Request{Hash: crypto.SHA256, Digest: sum[:], CertReq: true}).Marshal()
	require.NoError(t, err)
	answer, err := a.Respond(context.Background(), req)
	require.NoError(t, err)
	resp, err := tsp.ParseResponse(answer)
	require.NoError(t, err)
	return resp.Token
}
