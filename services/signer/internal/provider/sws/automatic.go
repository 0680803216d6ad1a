package sws

import (
	"context"
	"strings"

	"ceralacca.dev/services/signer/internal/provider"
)

// The automatic signature of SWS is in the guide at confluence.namirial.com/display/SWS/Sign+interface, read on
// 2026-11-22: credentials with username and password alone; devices AHI and AHIP are automatic signatures, SHI and
// SHIP seals, which to a client are the same; RHI and its like are remote and want a one-time password too.

var _ provider.Automatic = (*Client)(nil)

func automatic(who provider.Credential) error {
	for _, prefix := range []string{"AHI", "SHI"} {
		if strings.HasPrefix(who.ID, prefix) {
			return nil
		}
	}
	return provider.Errorf(provider.Refused, provider.NotAutomatic, "device %s is not for automatic signatures: those of SWS begin with AHI, its seals with SHI", who.ID)
}

// DescribeAutomatic reads the certificate of a device.
func (c *Client) DescribeAutomatic(ctx context.Context, who provider.Credential, _ provider.Secret) (provider.Description, error) {
	if err := automatic(who); err != nil {
		return provider.Description{}, err
	}
	return c.certificate(ctx, who)
}

// SignAutomatically signs hash after hash (signPkcs1), with the password of the device and nothing else.
func (c *Client) SignAutomatically(ctx context.Context, who provider.Credential, s provider.Secret, hashes []provider.Hash) ([][]byte, error) {
	if err := automatic(who); err != nil {
		return nil, err
	}
	return provider.Each(ctx, hashes, func(ctx context.Context, h provider.Hash) ([]byte, error) {
		return c.signature(ctx, credentials{Password: s.Password, Username: who.ID}, h)
	})
}
