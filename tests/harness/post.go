package harness

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/google/uuid"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/sandbox/client"
)

// TrustCertifiedMail has the platform trust the providers of the sandbox.
func (p *Platform) TrustCertifiedMail(ctx context.Context) error {
	conn, err := p.Conn("pec-gateway")
	if err != nil {
		return err
	}
	index, err := p.Sandbox.PECIndex(ctx)
	if err != nil {
		return err
	}
	providers, err := p.Sandbox.PECProviders(ctx)
	if err != nil {
		return err
	}
	var authorities strings.Builder
	for _, g := range providers {
		authorities.WriteString(g.CAPEM)
	}
	authority, err := os.ReadFile(p.SdI.CAFile)
	if err != nil {
		return err
	}
	_, err = pecv1.NewPecTrustServiceClient(conn).ImportTrustList(As(ctx, p.OperatorKey), &pecv1.ImportTrustListRequest{
		Index: index, IndexAuthorityPem: string(authority), AuthoritiesPem: authorities.String(),
	})
	return err
}

// CertifiedMailbox takes a new mailbox into keeping for the customer.
func (c *Customer) CertifiedMailbox(ctx context.Context) (*pecv1.Mailbox, error) {
	address := fmt.Sprintf("fatture-%s@alfa.test", uuid.NewString()[:8])
	_, err := c.Platform.Sandbox.SetPECMailbox(ctx, client.PECMailbox{Address: address, Password: "segreta"})
	if err != nil {
		return nil, err
	}
	conn, err := c.Platform.Conn("pec-gateway")
	if err != nil {
		return nil, err
	}
	return pecv1.NewPecServiceClient(conn).CreateMailbox(c.Ctx(ctx), &pecv1.CreateMailboxRequest{
		Parent: c.Tenant, Mailbox: &pecv1.Mailbox{Address: address, Provider: "sandbox"}, Password: "segreta", RequestId: uuid.NewString(),
	})
}

// Post is the customer's view of certified mail as a channel to SdI.
func (c *Customer) Post() (sdiv1.SdiPecServiceClient, error) {
	conn, err := c.Platform.Conn("sdi-gateway")
	if err != nil {
		return nil, err
	}
	return sdiv1.NewSdiPecServiceClient(conn), nil
}
