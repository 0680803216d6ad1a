package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
)

func (c *cli) inspectorCommand() *cobra.Command {
	return group("inspector", "Persons to whom documents are shown for a time, and what they looked at",
		c.inspectorGrantCommand(), c.inspectorListCommand(), c.inspectorRevokeCommand(), c.inspectorLogCommand())
}

func (c *cli) inspectors() (conservationv1.InspectorServiceClient, string, error) {
	tenant, err := c.tenantName()
	if err != nil {
		return nil, "", err
	}
	conn, err := c.dial()
	return conservationv1.NewInspectorServiceClient(conn), tenant, err
}

func (c *cli) inspectorGrantCommand() *cobra.Command {
	var in conservationv1.Inspector
	var until, output string
	cmd := verb("grant [EXPRESSION...]", "Let a person look at what the expression finds, at everything without one, until a day", nil, func(ctx context.Context, given []string) error {
		if err := need("full-name", in.GetFullName(), "until", until); err != nil {
			return err
		}
		end, err := time.Parse(time.DateOnly, until)
		if err != nil {
			return usage("--until: %q is no day such as 2026-12-31", until)
		}
		in.ExpireTime = timestamppb.New(end.AddDate(0, 0, 1)) // to the end of that day, UTC
		in.Filter, err = c.expression(given)
		if err != nil {
			return err
		}
		api, tenant, err := c.inspectors()
		if err != nil {
			return err
		}
		resp, err := api.CreateInspector(ctx, &conservationv1.CreateInspectorRequest{Parent: tenant, Inspector: &in})
		if err != nil {
			return err
		}
		if output != "" {
			err = put(output, private, []byte(resp.GetToken()+"\n"))
			if err != nil {
				return usage("%v: the token is lost, revoke %s", err, resp.GetInspector().GetName())
			}
			resp.Token = ""
		}
		return c.print(resp, func() {
			c.fields("inspector", resp.GetInspector().GetName(), "ends", when(resp.GetInspector().GetExpireTime()), "token", resp.GetToken(), "written", output)
		})
	})
	cmd.Long = cmd.Short + ".\n\nThe token is told this once; the inspector uses it with ceralacca conserve inspect.\n\n" + expressionHelp
	cmd.Flags().StringVar(&in.FullName, "full-name", "", "of the person")
	cmd.Flags().StringVar(&in.Body, "body", "", "for example Guardia di Finanza, Nucleo di Bologna")
	cmd.Flags().StringVar(&in.Reason, "reason", "", "for example the number of the order")
	cmd.Flags().StringVar(&until, "until", "", "last day of the access")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file for the token; standard output when empty")
	return cmd
}

func (c *cli) showInspectors(list ...*conservationv1.Inspector) {
	var rows [][]string
	for _, i := range list {
		rows = append(rows, []string{last(i.GetName()), i.GetFullName(), i.GetBody(), i.GetReason(), when(i.GetBeginTime()), when(i.GetExpireTime()), when(i.GetRevokeTime())})
	}
	c.table([]string{"INSPECTOR", "NAME", "BODY", "REASON", "BEGINS", "ENDS", "REVOKED"}, rows)
}

func (c *cli) inspectorListCommand() *cobra.Command {
	return c.lister(verb("ls", "List inspectors, newest first", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.inspectors()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*conservationv1.ListInspectorsResponse, error) {
			return api.ListInspectors(ctx, &conservationv1.ListInspectorsRequest{Parent: tenant, PageSize: size, PageToken: token})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() { c.showInspectors(page.GetInspectors()...) })
	}))
}

func (c *cli) inspectorRevokeCommand() *cobra.Command {
	return verb("revoke INSPECTOR", "End an inspector's access now", args("INSPECTOR"), func(ctx context.Context, given []string) error {
		name, err := c.within("inspectors", given[0])
		if err != nil {
			return err
		}
		api, _, err := c.inspectors()
		if err != nil {
			return err
		}
		in, err := api.RevokeInspector(ctx, &conservationv1.RevokeInspectorRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(in, func() { c.showInspectors(in) })
	})
}

func (c *cli) inspectorLogCommand() *cobra.Command {
	var of string
	cmd := c.lister(verb("log", "What inspectors looked at, newest first", args(), func(ctx context.Context, _ []string) error {
		var err error
		if of != "" {
			of, err = c.within("inspectors", of)
			if err != nil {
				return err
			}
		}
		api, tenant, err := c.inspectors()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*conservationv1.ListInspectionsResponse, error) {
			return api.ListInspections(ctx, &conservationv1.ListInspectionsRequest{Parent: tenant, Inspector: of, PageSize: size, PageToken: token})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, i := range page.GetInspections() {
				rows = append(rows, []string{when(i.GetTime()), i.GetFullName(), i.GetBody(), i.GetAction(), i.GetResource(), askedText(i.GetDetail())})
			}
			c.table([]string{"TIME", "NAME", "BODY", "ACTION", "RESOURCE", "DETAIL"}, rows)
		})
	}))
	cmd.Flags().StringVar(&of, "inspector", "", "only of this one")
	return cmd
}

// askedText is what an inspector asked for, as a person would ask for it.
func askedText(detail string) string {
	var q conservationv1.SearchQuery
	if protojson.Unmarshal([]byte(detail), &q) == nil {
		return expressionText(&q)
	}
	var d conservationv1.CreateInspectionDistributionRequest
	if protojson.Unmarshal([]byte(detail), &d) == nil {
		words := []string{expressionText(d.GetQuery())}
		for _, u := range d.GetUnits() {
			words = append(words, "unit="+u)
		}
		return strings.TrimSpace(strings.Join(words, " "))
	}
	return strings.Join(strings.Fields(detail), " ")
}

// visitCommand is the inspector's own side: a token in place of a key.
func (c *cli) visitCommand() *cobra.Command {
	var tokenFile string
	var api conservationv1.InspectionServiceClient
	// admitted puts the token into the context.
	admitted := func(ctx context.Context) (context.Context, error) {
		raw, err := c.readFlag("--token-file", tokenFile, largestText)
		if err != nil {
			return ctx, err
		}
		c.anonymous = true
		conn, err := c.dial()
		api = conservationv1.NewInspectionServiceClient(conn)
		return metadata.AppendToOutgoingContext(ctx, "inspector-token", strings.TrimSpace(string(raw))), err
	}
	// named admits, and learns from the token whose documents are shown where a word that is given names one by its id alone.
	named := func(ctx context.Context, given ...string) (context.Context, error) {
		ctx, err := admitted(ctx)
		if err != nil || c.tenant != "" || !slices.ContainsFunc(given, func(w string) bool { return !strings.Contains(w, "/") }) {
			return ctx, err
		}
		in, err := api.GetInspection(ctx, &conservationv1.GetInspectionRequest{})
		if err == nil {
			c.tenant = strings.Join(strings.Split(in.GetName(), "/")[:2], "/")
		}
		return ctx, err
	}
	// asked reads an expression, in which units may be named.
	asked := func(ctx context.Context, given []string) (context.Context, *conservationv1.SearchQuery, error) {
		ctx, err := named(ctx, slices.DeleteFunc(slices.Clone(given), func(w string) bool { return !strings.HasPrefix(w, "unit=") })...)
		if err != nil {
			return ctx, nil, err
		}
		q, err := c.expression(given)
		return ctx, q, err
	}
	show := verb("show", "What the token stands for", args(), func(ctx context.Context, _ []string) error {
		ctx, err := admitted(ctx)
		if err != nil {
			return err
		}
		in, err := api.GetInspection(ctx, &conservationv1.GetInspectionRequest{})
		if err != nil {
			return err
		}
		return c.print(in, func() { c.showInspectors(in) })
	})
	search := c.lister(verb("search [EXPRESSION...]", "Find documents among those that are shown", nil, func(ctx context.Context, given []string) error {
		ctx, q, err := asked(ctx, given)
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*conservationv1.SearchDocumentsResponse, error) {
			return api.InspectDocuments(ctx, &conservationv1.InspectDocumentsRequest{Query: q, PageSize: size, PageToken: token})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() { c.showFound(page) })
	}))
	search.Long = search.Short + ".\n\n" + expressionHelp
	var ordinal int32
	var output string
	file := verb("file UNIT", "Write a file of a unit: the document, or another by --ordinal", args("UNIT"), func(ctx context.Context, given []string) error {
		if output == "" {
			return usage("-o is needed: the file to write")
		}
		ctx, err := named(ctx, given[0])
		if err != nil {
			return err
		}
		unit, err := c.within("units", given[0])
		if err != nil {
			return err
		}
		stream, err := api.InspectFile(ctx, &conservationv1.InspectFileRequest{Unit: unit, Ordinal: ordinal})
		if err != nil {
			return err
		}
		return c.download(output, func() ([]byte, error) { m, err := stream.Recv(); return m.GetChunk(), err })
	})
	file.Flags().Int32Var(&ordinal, "ordinal", 0, "0 is the document, then come receipts and metadata")
	file.Flags().StringVarP(&output, "output", "o", "", "file to write")
	cmd := group("inspect", "Look at documents with an inspector's token", show, search, file, c.inspectIntegrityCommand(named, &api), c.inspectExhibitCommand(asked, &api))
	cmd.PersistentFlags().StringVar(&tokenFile, "token-file", "", "file that holds the inspector's token")
	return cmd
}

func (c *cli) inspectIntegrityCommand(named func(context.Context, ...string) (context.Context, error), api *conservationv1.InspectionServiceClient) *cobra.Command {
	var output, page string
	cmd := verb("integrity UNIT", "Verify a document now, and get the signed report", args("UNIT"), func(ctx context.Context, given []string) error {
		ctx, err := named(ctx, given[0])
		if err != nil {
			return err
		}
		unit, err := c.within("units", given[0])
		if err != nil {
			return err
		}
		r, err := (*api).InspectIntegrity(ctx, &conservationv1.InspectIntegrityRequest{Unit: unit})
		if err != nil {
			return err
		}
		return c.showIntegrity(r, output, page)
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file for the signed report (.p7m)")
	cmd.Flags().StringVar(&page, "page", "", "file for the report as a page (.html)")
	return cmd
}

func (c *cli) inspectExhibitCommand(asked func(context.Context, []string) (context.Context, *conservationv1.SearchQuery, error), api *conservationv1.InspectionServiceClient) *cobra.Command {
	var output string
	var wait time.Duration
	cmd := verb("exhibit [EXPRESSION...]", "Get a package (PdD) of what is found among the documents that are shown", nil, func(ctx context.Context, given []string) error {
		if output == "" {
			return usage("-o is needed: the file for the ZIP")
		}
		ctx, q, err := asked(ctx, given)
		if err != nil {
			return err
		}
		d, err := (*api).CreateInspectionDistribution(ctx, &conservationv1.CreateInspectionDistributionRequest{Query: q})
		if err == nil {
			d, err = c.awaited(ctx, d, wait, func(name string) (*conservationv1.Distribution, error) {
				return (*api).GetInspectionDistribution(ctx, &conservationv1.GetInspectionDistributionRequest{Name: name})
			})
		}
		if err != nil {
			return err
		}
		if d.GetState() != conservationv1.DistributionState_DISTRIBUTION_STATE_READY {
			return c.showDistribution(d, "")
		}
		stream, err := (*api).DownloadInspectionDistribution(ctx, &conservationv1.DownloadInspectionDistributionRequest{Name: d.GetName()})
		if err == nil {
			err = c.download(output, func() ([]byte, error) { m, err := stream.Recv(); return m.GetChunk(), err })
		}
		if err != nil {
			return err
		}
		return c.showDistribution(d, output)
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file for the ZIP")
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait until it is built")
	return cmd
}
