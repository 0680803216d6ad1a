package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
)

func (c *cli) storageCommand() *cobra.Command {
	return verb("storage", "In how many copies documents are taken in, and what the replicas owe (operators)", args(), func(ctx context.Context, _ []string) error {
		conn, err := c.dial()
		if err != nil {
			return err
		}
		got, err := conservationv1.NewStorageServiceClient(conn).GetStorage(ctx, &conservationv1.GetStorageRequest{})
		if err != nil {
			return err
		}
		return c.print(got, func() {
			c.fields("state", enum("STORAGE_STATE_", got.GetState()))
			if got.GetBehindSince() != nil {
				c.fields("database behind since", when(got.GetBehindSince()), "mend", "ceralacca conserve check restore")
			}
			for _, o := range got.GetSigningOutages() {
				c.fields("signing stopped since", when(o.GetSince()), "because", o.GetCode()+": "+o.GetReason())
			}
			var rows [][]string
			for _, r := range got.GetReplicas() {
				rows = append(rows, []string{r.GetName(), r.GetPlace(), when(r.GetOutSince()), fmt.Sprint(r.GetOwedCopies()), fmt.Sprint(r.GetDamagedCopies()), r.GetTrouble()})
			}
			c.table([]string{"REPLICA", "PLACE", "OUT SINCE", "OWED", "DAMAGED", "TROUBLE"}, rows)
		})
	})
}

func (c *cli) damagesCommand() *cobra.Command {
	var open bool
	cmd := c.lister(verb("damages", "Copies that were found damaged, newest first (operators)", args(), func(ctx context.Context, _ []string) error {
		conn, err := c.dial()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*conservationv1.ListDamagesResponse, error) {
			return conservationv1.NewStorageServiceClient(conn).ListDamages(ctx, &conservationv1.ListDamagesRequest{Open: open, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, d := range page.GetDamages() {
				rows = append(rows, []string{when(d.GetFindTime()), d.GetReplica(), d.GetObject(), when(d.GetRepairTime()), fmt.Sprintf("%x", d.GetSha256()), d.GetProblem()})
			}
			c.table([]string{"FOUND", "REPLICA", "OBJECT", "REPAIRED", "SHA-256", "PROBLEM"}, rows)
		})
	}))
	cmd.Flags().BoolVar(&open, "open", false, "only those that are not repaired")
	return cmd
}
