package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
)

func (c *cli) exhibition() (conservationv1.ExhibitionServiceClient, string, error) {
	tenant, err := c.tenantName()
	if err != nil {
		return nil, "", err
	}
	conn, err := c.dial()
	return conservationv1.NewExhibitionServiceClient(conn), tenant, err
}

// expressionHelp is said by each command that takes an expression.
const expressionHelp = `EXPRESSION is conditions KEY=VALUE that all hold; the word "or" begins an alternative. Keys:

  name, surname, company   words of a party's name, in any order, whole or begun
  vat, tax-code            of a party, the VAT number with or without its country
  date, from, to           of the document, such as 2026-03-31
  number, type, sdi-id, class, year, file, state, unit

seller.KEY and buyer.KEY mean that party alone. Case, accents, spaces and apostrophes do not count.

  ceralacca conserve search surname=rossi name=mario from=2026-01-01 or buyer.vat=01234567897 type=TD04`

var searchKeys = map[string]conservationv1.SearchField{
	"name": conservationv1.SearchField_SEARCH_FIELD_NAME, "surname": conservationv1.SearchField_SEARCH_FIELD_NAME, "company": conservationv1.SearchField_SEARCH_FIELD_NAME,
	"vat": conservationv1.SearchField_SEARCH_FIELD_VAT_NUMBER, "tax-code": conservationv1.SearchField_SEARCH_FIELD_TAX_CODE,
	"date": conservationv1.SearchField_SEARCH_FIELD_DATE, "from": conservationv1.SearchField_SEARCH_FIELD_DATE, "to": conservationv1.SearchField_SEARCH_FIELD_DATE,
	"number": conservationv1.SearchField_SEARCH_FIELD_NUMBER, "type": conservationv1.SearchField_SEARCH_FIELD_DOCUMENT_TYPE,
	"sdi-id": conservationv1.SearchField_SEARCH_FIELD_SDI_ID, "class": conservationv1.SearchField_SEARCH_FIELD_CLASS,
	"year": conservationv1.SearchField_SEARCH_FIELD_FISCAL_YEAR, "file": conservationv1.SearchField_SEARCH_FIELD_FILE_NAME,
	"state": conservationv1.SearchField_SEARCH_FIELD_STATE, "unit": conservationv1.SearchField_SEARCH_FIELD_UNIT,
}

// expression reads conditions. Surname, first name and company of one party are one name.
func (c *cli) expression(given []string) (*conservationv1.SearchQuery, error) {
	if len(given) == 0 {
		return nil, nil //nolint:nilnil // everything
	}
	q := &conservationv1.SearchQuery{AnyOf: []*conservationv1.SearchAlternative{{}}}
	for _, word := range given {
		if word == "or" {
			q.AnyOf = append(q.AnyOf, &conservationv1.SearchAlternative{})
			continue
		}
		key, value, ok := strings.Cut(word, "=")
		side := conservationv1.PartySide_PARTY_SIDE_UNSPECIFIED
		if of, rest, cut := strings.Cut(key, "."); cut {
			side, key = conservationv1.PartySide(conservationv1.PartySide_value["PARTY_SIDE_"+strings.ToUpper(of)]), rest
			ok = ok && side != 0
		}
		field := searchKeys[key]
		if !ok || field == 0 {
			return nil, usage("%q is no condition such as surname=rossi; see --help for the keys", word)
		}
		err := c.condition(q.GetAnyOf()[len(q.GetAnyOf())-1], key, &conservationv1.SearchCondition{Field: field, Side: side, Value: value})
		if err != nil {
			return nil, err
		}
	}
	for _, a := range q.GetAnyOf() {
		if len(a.GetAllOf()) == 0 {
			return nil, usage("an alternative has no condition: put some before and behind each or")
		}
	}
	return q, nil
}

// expressionText is what a query asks, as expression reads it.
func expressionText(q *conservationv1.SearchQuery) string {
	var words []string
	for i, a := range q.GetAnyOf() {
		if i > 0 {
			words = append(words, "or")
		}
		for _, n := range a.GetAllOf() {
			key := ""
			for _, k := range slices.Sorted(maps.Keys(searchKeys)) {
				if searchKeys[k] == n.GetField() && (key == "" || k == "name") {
					key = k
				}
			}
			if n.GetSide() != conservationv1.PartySide_PARTY_SIDE_UNSPECIFIED {
				key = strings.ToLower(enum("PARTY_SIDE_", n.GetSide())) + "." + key
			}
			for _, w := range [][2]string{{key, n.GetValue()}, {"from", n.GetFrom()}, {"to", n.GetTo()}} {
				if strings.ContainsAny(w[1], " \t\n\"") {
					w[1] = strconv.Quote(w[1])
				}
				if w[1] != "" {
					words = append(words, w[0]+"="+w[1])
				}
			}
		}
	}
	return strings.Join(words, " ")
}

func (c *cli) condition(a *conservationv1.SearchAlternative, key string, n *conservationv1.SearchCondition) error {
	switch key {
	case "from":
		n.From, n.Value = n.GetValue(), ""
	case "to":
		n.To, n.Value = n.GetValue(), ""
	case "unit":
		name, err := c.within("units", n.GetValue())
		if err != nil {
			return err
		}
		n.Value = name
	case "name", "surname", "company":
		for _, old := range a.GetAllOf() {
			if old.GetField() == n.GetField() && old.GetSide() == n.GetSide() {
				old.Value += " " + n.GetValue()
				return nil
			}
		}
	}
	a.AllOf = append(a.AllOf, n)
	return nil
}

func (c *cli) showFound(page *conservationv1.SearchDocumentsResponse) {
	var rows [][]string
	who := func(p *conservationv1.DocumentParty) string {
		id := p.GetVatNumber()
		if id == "" {
			id = p.GetTaxCode()
		}
		return strings.TrimSpace(p.GetName() + " " + id)
	}
	for _, d := range page.GetDocuments() {
		rows = append(rows, []string{
			d.GetDate(), d.GetDocumentType(), d.GetNumber(), who(d.GetSeller()), who(d.GetBuyer()), d.GetState(), d.GetSdiId(), d.GetFileName(), last(d.GetUnit()),
			enum("UNIT_STATE_", d.GetUnitState()),
		})
	}
	c.table([]string{"DATE", "TYPE", "NUMBER", "SELLER", "BUYER", "OUTCOME", "SDI", "FILE", "UNIT", "STATE"}, rows)
}

func (c *cli) searchCommand() *cobra.Command {
	cmd := c.lister(verb("search [EXPRESSION...]", "Find documents in custody by the keys of the decree, newest first", nil, func(ctx context.Context, given []string) error {
		q, err := c.expression(given)
		if err != nil {
			return err
		}
		api, tenant, err := c.exhibition()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*conservationv1.SearchDocumentsResponse, error) {
			return api.SearchDocuments(ctx, &conservationv1.SearchDocumentsRequest{Parent: tenant, Query: q, PageSize: size, PageToken: token})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() { c.showFound(page) })
	}))
	cmd.Long = cmd.Short + ".\n\n" + expressionHelp
	return cmd
}

func (c *cli) searchRebuildCommand() *cobra.Command {
	return verb("search-rebuild", "Make the search of a tenant again from the archive's replicas alone (operators)", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.exhibition()
		if err != nil {
			return err
		}
		resp, err := api.RebuildSearch(ctx, &conservationv1.RebuildSearchRequest{Parent: tenant})
		if err != nil {
			return err
		}
		return c.print(resp, func() { fmt.Fprintln(c.out, "planned; the audit entry search.rebuilt tells when it is done") })
	})
}

func (c *cli) showDistribution(d *conservationv1.Distribution, output string) error {
	return c.print(d, func() {
		c.fields("distribution", d.GetName(), "state", enum("DISTRIBUTION_STATE_", d.GetState()), "units", d.GetUnitCount(), "purpose", d.GetPurpose(),
			"created", when(d.GetCreateTime()), "ready", when(d.GetReadyTime()), "kept until", when(d.GetExpireTime()), "sha256", fmt.Sprintf("%x", d.GetSha256()), "size", d.GetSize(),
			"last error", d.GetLastError(), "written", output)
	})
}

// awaited follows a distribution until it is built or the time is over.
func (c *cli) awaited(ctx context.Context, d *conservationv1.Distribution, wait time.Duration, get func(name string) (*conservationv1.Distribution, error)) (*conservationv1.Distribution, error) {
	var err error
	for until := c.now().Add(wait); err == nil && d.GetState() == conservationv1.DistributionState_DISTRIBUTION_STATE_BUILDING && c.now().Before(until); {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		d, err = get(d.GetName())
	}
	return d, err
}

func (c *cli) exhibitCommand() *cobra.Command {
	var units []string
	var purpose, output, again string
	var wait time.Duration
	cmd := verb("exhibit [EXPRESSION...]", "Make a package of documents for whoever asks to see them (PdD), which opens in a browser without us", nil, func(ctx context.Context, given []string) error {
		if len(given)+len(units) == 0 && again == "" {
			return usage("which documents? Give an expression, --unit, or --distribution for one that is built already")
		}
		q, err := c.expression(given)
		if err != nil {
			return err
		}
		api, tenant, err := c.exhibition()
		if err != nil {
			return err
		}
		get := func(name string) (*conservationv1.Distribution, error) {
			return api.GetDistribution(ctx, &conservationv1.GetDistributionRequest{Name: name})
		}
		var d *conservationv1.Distribution
		if again != "" {
			again, err = c.within("distributions", again)
			if err == nil {
				d, err = get(again)
			}
		} else {
			for i := range units {
				units[i], err = c.within("units", units[i])
				if err != nil {
					return err
				}
			}
			d, err = api.CreateDistribution(ctx, &conservationv1.CreateDistributionRequest{Parent: tenant, Query: q, Units: units, Purpose: purpose, RequestId: uuid.NewString()})
		}
		if err == nil {
			d, err = c.awaited(ctx, d, wait, get)
		}
		if err != nil {
			return err
		}
		expired := d.GetState() == conservationv1.DistributionState_DISTRIBUTION_STATE_EXPIRED
		if output == "" || d.GetState() != conservationv1.DistributionState_DISTRIBUTION_STATE_READY && !expired {
			return c.showDistribution(d, "")
		}
		stream, err := api.DownloadDistribution(ctx, &conservationv1.DownloadDistributionRequest{Name: d.GetName()})
		if err == nil {
			err = c.download(output, func() ([]byte, error) { m, err := stream.Recv(); return m.GetChunk(), err })
		}
		if err != nil && !expired {
			c.progress("the package is made and kept: ceralacca conserve exhibit --distribution %s -o FILE fetches it", last(d.GetName()))
		}
		if err != nil {
			return err
		}
		return c.showDistribution(d, output)
	})
	cmd.Long = cmd.Short + ".\n\nIt holds the originals, their receipts, readable views, and what proves where they come from; verifica.sh in it, and\nceralacca conserve verify, verify all of it offline.\n\n" + expressionHelp
	cmd.Flags().StringArrayVar(&units, "unit", nil, "this unit; may be given several times, in place of an expression")
	cmd.Flags().StringVar(&purpose, "purpose", "", "said in the package, for example who asked for it")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file for the ZIP")
	cmd.Flags().StringVar(&again, "distribution", "", "one that was made before")
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait until it is built")
	return cmd
}

func (c *cli) distributionsCommand() *cobra.Command {
	cmd := c.lister(verb("distributions", "Packages of documents that were made for those who asked (PdD), newest first: conserve exhibit --distribution writes one again", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.exhibition()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*conservationv1.ListDistributionsResponse, error) {
			return api.ListDistributions(ctx, &conservationv1.ListDistributionsRequest{Parent: tenant, PageSize: size, PageToken: token})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, d := range page.GetDistributions() {
				rows = append(rows, []string{last(d.GetName()), enum("DISTRIBUTION_STATE_", d.GetState()), fmt.Sprint(d.GetUnitCount()), fmt.Sprint(d.GetSize()), when(d.GetCreateTime()), d.GetPurpose(), d.GetLastError()})
			}
			c.table([]string{"DISTRIBUTION", "STATE", "DOCUMENTS", "BYTES", "ASKED FOR", "PURPOSE", "LAST ERROR"}, rows)
		})
	}))
	return cmd
}

func (c *cli) integrityCommand() *cobra.Command {
	var output, page string
	cmd := verb("integrity UNIT", "Verify a document now, in both replicas and down to the log, and get the signed report", args("UNIT"), func(ctx context.Context, given []string) error {
		name, err := c.within("units", given[0])
		if err != nil {
			return err
		}
		api, _, err := c.exhibition()
		if err != nil {
			return err
		}
		r, err := api.GetIntegrityReport(ctx, &conservationv1.GetIntegrityReportRequest{Name: name})
		if err != nil {
			return err
		}
		return c.showIntegrity(r, output, page)
	})
	cmd.Long = cmd.Short + ".\n\nExit code 0: intact. 1: something is broken; the report names it."
	cmd.Flags().StringVarP(&output, "output", "o", "", "file for the signed report (.p7m)")
	cmd.Flags().StringVar(&page, "page", "", "file for the report as a page (.html)")
	return cmd
}

func (c *cli) showIntegrity(r *conservationv1.IntegrityReport, output, page string) error {
	err := keep(output, r.GetSigned())
	if err == nil {
		err = keep(page, r.GetPage())
	}
	if err == nil {
		err = c.print(r, func() {
			c.fields("intact", fmt.Sprint(r.GetIntact()), "checked", when(r.GetCheckTime()), "written", strings.TrimSpace(output+" "+page))
			fmt.Fprintln(c.out, string(r.GetContent()))
		})
	}
	if err == nil && !r.GetIntact() {
		return quietError(exitRefused)
	}
	return err
}
