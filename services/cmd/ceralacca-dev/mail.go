package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/sandbox/client"
)

// trustMail puts the sandbox's providers of certified mail into the trust list, as an operator does with the public
// index: without them no receipt proves anything. Doing it again changes nothing.
func (w *world) trustMail(ctx context.Context) error {
	control := client.New(w.sdi.ControlURL)
	index, err := control.PECIndex(ctx)
	if err != nil {
		return fmt.Errorf("index of the sandbox's mail providers: %w", err)
	}
	providers, err := control.PECProviders(ctx)
	if err != nil {
		return fmt.Errorf("the sandbox's mail providers: %w", err)
	}
	signer, err := os.ReadFile(w.path("sdi", "ca.crt"))
	if err != nil {
		return err
	}
	var authorities strings.Builder
	for _, p := range providers {
		authorities.WriteString(p.CAPEM)
	}
	operator, err := w.dial(ctx, w.key)
	if err != nil {
		return err
	}
	defer operator.Close()
	_, err = pecv1.NewPecTrustServiceClient(operator).ImportTrustList(ctx, &pecv1.ImportTrustListRequest{
		Index: index, IndexAuthorityPem: string(signer), AuthoritiesPem: authorities.String(),
	})
	if err != nil {
		return fmt.Errorf("trust list of certified mail: %w", err)
	}
	return nil
}
