package signer

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"ceralacca.dev/services/internal/fault"
)

// vaultKey is one version of a key in Vault as a crypto.Signer (and a cms.ContextSigner). Digests
// that are asked for at the same time travel in one call: while the allowed calls are under way the
// others gather, so a lone digest never waits and a crowd shares the round trip.
type vaultKey struct {
	vault   *transit
	name    string
	version int
	public  crypto.PublicKey

	mu      sync.Mutex
	waiting []*wish
	flying  int
}

// mostWaiting is how many digests wait for one key at most: those of 64 requests at a time with 64 in hand each, some
// seconds of Vault's work. Whoever comes on top of them does better to come again than to wait beyond its deadline.
const mostWaiting = 4096

// wish is one digest that waits for its signature.
type wish struct {
	ctx    context.Context //nolint:containedctx // a wish is a call in hand, not a thing that is kept
	digest []byte
	done   chan signResult // buffered: whoever gave up leaves nobody hanging
}

func (t *transit) key(name string, version int, public crypto.PublicKey) *vaultKey {
	return &vaultKey{vault: t, name: name, version: version, public: public}
}

// Public is the key's public half.
func (k *vaultKey) Public() crypto.PublicKey { return k.public }

// errNoContext: a remote key cannot be used without the caller's context.
var errNoContext = errors.New("signer: a key in Vault signs with SignContext only")

// Sign is there for crypto.Signer; it refuses, since it knows neither deadline nor caller.
func (k *vaultKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errNoContext
}

// SignContext signs a SHA-256 digest: PKCS #1 v1.5 for RSA, ASN.1 for ECDSA.
func (k *vaultKey) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, pss := opts.(*rsa.PSSOptions); pss || opts.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, fmt.Errorf("signer: keys in Vault sign SHA-256 digests of 32 bytes, without PSS; this one has %d bytes of %v", len(digest), opts.HashFunc())
	}
	w := &wish{ctx: ctx, digest: digest, done: make(chan signResult, 1)}
	k.mu.Lock()
	if len(k.waiting) >= mostWaiting {
		k.mu.Unlock()
		return nil, fault.Unavailable("KEY_BUSY", "%d digests wait for this key already: repeat the same request in a moment", mostWaiting).WithRetryAfter(time.Second)
	}
	k.waiting = append(k.waiting, w)
	if k.flying < k.vault.cfg.InFlight {
		k.flying++
		go k.fly()
	}
	k.mu.Unlock()
	select {
	case r := <-w.done:
		return r.signature, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fly sends what waits, batch after batch, and ends when nothing does.
func (k *vaultKey) fly() {
	for {
		k.mu.Lock()
		batch := k.take()
		if len(batch) == 0 {
			k.flying--
			k.mu.Unlock()
			return
		}
		k.mu.Unlock()
		k.send(batch)
	}
}

// take takes the next batch off the queue, without those whose caller has gone: nobody would have their signatures.
func (k *vaultKey) take() []*wish {
	var batch []*wish
	for len(k.waiting) > 0 && len(batch) < k.vault.cfg.Batch {
		w := k.waiting[0]
		k.waiting = k.waiting[1:]
		if w.ctx.Err() == nil {
			batch = append(batch, w)
		}
	}
	if len(k.waiting) == 0 {
		k.waiting = nil
	}
	return batch
}

func (k *vaultKey) send(batch []*wish) {
	// The call serves several callers: one that gives up must not take the signatures of the others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(batch[0].ctx), k.vault.cfg.Timeout)
	defer cancel()
	digests := make([][]byte, len(batch))
	for i, w := range batch {
		digests[i] = w.digest
	}
	results, err := k.vault.signDigests(ctx, k.name, k.version, k.public, digests)
	for i, w := range batch {
		if err != nil {
			w.done <- signResult{err: err}
			continue
		}
		w.done <- results[i]
	}
}

// within is the key for the length of one call of the standard library, which has no context to give.
type within struct {
	*vaultKey
	ctx context.Context //nolint:containedctx // see above
}

// Sign signs in the call's context.
func (w within) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return w.SignContext(w.ctx, digest, opts)
}
