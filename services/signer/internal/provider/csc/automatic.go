package csc

import (
	"context"

	"ceralacca.dev/services/signer/internal/provider"
)

// Automatic signature, as far as the API has it: a credential that is authorized by this application (mode explicit)
// and asks for no one-time password, with a PIN or without. Each authorization is for exactly the digests that are
// signed with it, whatever the SCAL. spec: CSC-2.0.0.2 §11.5, §11.6; CSC-1.0.4.0 §11.5, §11.6
//
// It refuses credentials that want a one-time password, and those of mode implicit, where the provider asks the
// holder by itself: somebody would have to answer each time. spec: CSC-1.0.4.0 §8.3

var _ provider.Automatic = (*Client)(nil)

// DescribeAutomatic reads what the provider says of a credential that a PIN alone authorizes.
func (c *Client) DescribeAutomatic(ctx context.Context, who provider.Credential, _ provider.Secret) (provider.Description, error) {
	d, err := c.describe(ctx, who)
	if err != nil {
		return provider.Description{}, err
	}
	return d.Description, d.automatic()
}

func (d *description) automatic() error {
	switch {
	case d.implicit:
		return provider.Errorf(provider.Refused, provider.NotAutomatic, "the provider asks the holder for each signature by itself (mode implicit): that is no automatic signature")
	case len(d.OTP) > 0:
		return provider.Errorf(provider.Refused, provider.NotAutomatic, "the credential wants a one-time password: it is not for automatic signatures")
	}
	return nil
}

// SignAutomatically authorizes and signs as many at a time as the provider lets. An authorization whose answer is lost
// has signed nothing, and no password was spent: it is Busy.
func (c *Client) SignAutomatically(ctx context.Context, who provider.Credential, s provider.Secret, hashes []provider.Hash) ([][]byte, error) {
	d, err := c.recall(ctx, who)
	if err != nil {
		return nil, err
	}
	if err := d.automatic(); err != nil {
		return nil, err
	}
	made := make([][]byte, 0, len(hashes))
	for len(made) < len(hashes) {
		next := hashes[len(made):min(len(made)+max(1, d.Multisign), len(hashes))]
		grant, err := c.Authorize(ctx, who, next, provider.Factors{PIN: s.Password})
		if err != nil {
			if provider.OutcomeOf(err) == provider.Unknown {
				err = provider.Errorf(provider.Busy, provider.Away, "the provider's authorization was lost, before anything was signed: try again").With(err)
			}
			return made, err
		}
		signatures, err := c.SignHashes(ctx, who, grant, next)
		if err != nil {
			return made, err
		}
		made = append(made, signatures...)
	}
	return made, nil
}
