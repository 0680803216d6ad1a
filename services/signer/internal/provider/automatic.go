package provider

import (
	"context"
	"log/slog"
)

// NotAutomatic is the code for a key, or a provider, that does not sign without a person. Refused.
const NotAutomatic = "PROVIDER_NOT_AUTOMATIC"

// Secret is what an automatic signature (or a seal) is asked for with, by nobody's hand: the PIN of the key (SWS, CSC),
// or the delegate to whom the holder gave it (ARSS). It lives for one call and prints as nothing.
type Secret struct {
	Password string
	// User and Domain are the delegate's, ARSS only.
	User, Domain string
}

// String keeps a secret out of text.
func (Secret) String() string { return "[secret]" }

// GoString keeps a secret out of %#v.
func (Secret) GoString() string { return "[secret]" }

// LogValue keeps a secret out of logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalJSON keeps a secret out of JSON.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"[secret]"`), nil }

// Automatic is the automatic signature of a provider: the Italian "firma automatica" and seals, for which the holder
// has given the key for documents of a kind that was agreed before. Every error is an [*Error]; outcomes are those of
// Provider, and what is Unknown is not repeated either, though no password was spent: it may have been signed.
type Automatic interface {
	// DescribeAutomatic reads what the provider says of a key that signs without a person. It changes nothing.
	// Error: Refused NotAutomatic for a key that wants a one-time password.
	DescribeAutomatic(ctx context.Context, c Credential, s Secret) (Description, error)

	// SignAutomatically signs, in order, as SignHashes does; the list may be cut short in the same way.
	SignAutomatically(ctx context.Context, c Credential, s Secret, hashes []Hash) (signatures [][]byte, err error)
}

// Guarded is a provider behind its breaker. One that has no automatic signature refuses it.
type Guarded interface {
	Provider
	Automatic
}

func (g *guarded) automatic() (Automatic, error) {
	if a, ok := g.inner.(Automatic); ok {
		return a, nil
	}
	return nil, Errorf(Refused, NotAutomatic, "this provider signs with a person's password only")
}

// DescribeAutomatic is Automatic's, behind the breaker.
func (g *guarded) DescribeAutomatic(ctx context.Context, c Credential, s Secret) (d Description, err error) {
	a, err := g.automatic()
	if err != nil {
		return d, err
	}
	err = g.do(ctx, func(ctx context.Context) error { d, err = a.DescribeAutomatic(ctx, c, s); return err })
	return d, err
}

// SignAutomatically is Automatic's, behind the breaker.
func (g *guarded) SignAutomatically(ctx context.Context, c Credential, s Secret, hashes []Hash) (signatures [][]byte, err error) {
	a, err := g.automatic()
	if err != nil {
		return nil, err
	}
	err = g.do(ctx, func(ctx context.Context) error { signatures, err = a.SignAutomatically(ctx, c, s, hashes); return err })
	return signatures, err
}
