package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/internal/fault"
)

func (c *cli) deposits() (conservationv1.DepositServiceClient, string, error) {
	tenant, err := c.tenantName()
	if err != nil {
		return nil, "", err
	}
	conn, err := c.dial()
	return conservationv1.NewDepositServiceClient(conn), tenant, err
}

// depositFlags describe a document on the command line.
type depositFlags struct {
	key, class, metadata, kind, title, number, date, flow string
	authors, recipients                                   []string
	year                                                  int32
	foreign, dry                                          bool
}

const depositHelp = `
The metadata of the document (Allegato 5) are given by flags, or as a JSON file with --metadata, for example

  {"type": "Contratto", "title": "Fornitura", "number": "12/2026", "date": "2026-03-31", "flow": "FLOW_OUT",
   "agents": [{"role": "AGENT_ROLE_AUTHOR", "firstName": "Mario", "lastName": "Rossi", "taxCode": "RSSMRA80A01H501U"},
              {"role": "AGENT_ROLE_RECIPIENT", "name": "Cartiera S.p.A.", "vatNumber": "IT01234567897"}]}

An upload that breaks goes on where it stopped when the same command is given again. The same key with other bytes is a conflict,
which a person resolves (conserve conflicts). Exit code 1: refused, or a conflict; the problems say why.`

func (c *cli) depositUploadCommand() *cobra.Command {
	var f depositFlags
	cmd := verb("upload FILE", "Hand a document, or with --foreign a package of another preserver, over to the archive", args("FILE"), func(ctx context.Context, given []string) error {
		return c.handOver(ctx, given[0], f)
	})
	cmd.Long = cmd.Short + ".\n" + depositHelp
	fl := cmd.Flags()
	fl.StringVar(&f.key, "key", "", "what the document is, for ever, in your own system; the same key goes on with the same document")
	fl.StringVar(&f.class, "class", "", "PEC, REG or ALTRO (FISC too for --foreign); ALTRO when empty")
	fl.Int32Var(&f.year, "year", 0, "fiscal year; this year when 0")
	fl.BoolVar(&f.foreign, "foreign", false, "FILE is a ZIP with an index of UNI 11386 (2010 or 2020)")
	fl.BoolVar(&f.dry, "dry-run", false, "only judge: nothing is kept")
	fl.StringVar(&f.metadata, "metadata", "", "file with the metadata, JSON")
	fl.StringVar(&f.kind, "type", "", "type of document, such as Contratto")
	fl.StringVar(&f.title, "title", "", "what it is about")
	fl.StringVar(&f.number, "number", "", "its number")
	fl.StringVar(&f.date, "date", "", "its date, such as 2026-03-31")
	fl.StringVar(&f.flow, "flow", "", "in, out or internal")
	fl.StringArrayVar(&f.authors, "author", nil, "name, or name;VAT number;tax code")
	fl.StringArrayVar(&f.recipients, "recipient", nil, "name, or name;VAT number;tax code")
	return cmd
}

// importPackageCommand is upload --foreign, where people look for it.
func (c *cli) importPackageCommand() *cobra.Command {
	f := depositFlags{foreign: true}
	cmd := verb("import FILE", "Take in a package of another preserver, or of another installation: verified, kept as it came, searchable", args("FILE"), func(ctx context.Context, given []string) error {
		return c.handOver(ctx, given[0], f)
	})
	cmd.Long = cmd.Short + `.

FILE is a ZIP with an index of UNI 11386 (IdC of 2010, PIndex of 2020). Every file that the index names must be there with its digest;
a signature and a time stamp that are in it must hold. conserve deposits DEPOSIT --format json shows what was found (verification).`
	cmd.Flags().StringVar(&f.key, "key", "", "what the package is, for ever; the same key goes on with the same package")
	cmd.Flags().StringVar(&f.class, "class", "", "class that it is kept with; ALTRO when empty")
	cmd.Flags().Int32Var(&f.year, "year", 0, "fiscal year that it is kept with; this year when 0")
	cmd.Flags().BoolVar(&f.dry, "dry-run", false, "only judge: nothing is kept")
	return cmd
}

func (c *cli) handOver(ctx context.Context, name string, f depositFlags) error {
	if f.key == "" {
		return usage("--key is needed: what the document is in your own system, such as --key contract-12-2026")
	}
	api, tenant, err := c.deposits()
	if err != nil {
		return err
	}
	file, err := os.Open(name)
	if err != nil {
		return usage("%v", err)
	}
	defer file.Close()
	head, err := c.depositHead(file, tenant, f)
	if err != nil {
		return err
	}
	from := int64(0)
	head.ValidateOnly = f.dry
	there, err := api.OpenDeposit(ctx, &conservationv1.OpenDepositRequest{Parent: tenant, Key: f.key})
	switch {
	case err == nil && !f.dry && there.GetState() == conservationv1.DepositState_DEPOSIT_STATE_RECEIVING:
		from = there.GetReceivedBytes()
	case err != nil && !errors.Is(err, fault.NotFound("DEPOSIT_NOT_FOUND", "")):
		return err
	}
	d, err := sendDeposit(ctx, api, head, file, from)
	if err != nil {
		return err
	}
	err = c.print(d, func() { c.showDeposit(d) })
	if err == nil && d.GetState() != conservationv1.DepositState_DEPOSIT_STATE_ACCEPTED {
		return quietError(exitRefused)
	}
	return err
}

func (c *cli) depositHead(file *os.File, tenant string, f depositFlags) (*conservationv1.DepositHead, error) {
	sum := sha256.New()
	size, err := io.Copy(sum, file)
	if err != nil {
		return nil, usage("%v", err)
	}
	if size == 0 {
		return nil, usage("%s is empty", file.Name())
	}
	head := &conservationv1.DepositHead{
		Parent: tenant, Key: f.key, Kind: conservationv1.DepositKind_DEPOSIT_KIND_DOCUMENT, FileName: filepath.Base(file.Name()), Size: size, Sha256: sum.Sum(nil), Class: f.class, FiscalYear: f.year,
	}
	if head.GetFiscalYear() == 0 {
		head.FiscalYear = int32(c.now().Year()) //nolint:gosec // a year
	}
	if f.foreign {
		head.Kind = conservationv1.DepositKind_DEPOSIT_KIND_PACKAGE
		if f.metadata == "" && f.title == "" {
			return head, nil
		}
	}
	head.Document, err = c.depositDocument(f)
	return head, err
}

func (c *cli) depositDocument(f depositFlags) (*conservationv1.Document, error) {
	d := &conservationv1.Document{}
	if f.metadata != "" {
		raw, err := c.readFlag("--metadata", f.metadata, 1<<20)
		if err != nil {
			return nil, err
		}
		err = protojson.Unmarshal(raw, d)
		if err != nil {
			return nil, usage("--metadata: %s: %s; see ceralacca conserve upload --help for the form", f.metadata, notThisJSON(raw, err))
		}
	}
	for _, x := range []struct {
		value string
		into  *string
	}{{f.kind, &d.Type}, {f.title, &d.Title}, {f.number, &d.Number}, {f.date, &d.Date}} {
		if x.value != "" {
			*x.into = x.value
		}
	}
	err := need("type", d.GetType(), "title", d.GetTitle(), "date", d.GetDate())
	if err != nil {
		return nil, usage("%v, and --metadata does not give it either", err)
	}
	if f.flow != "" {
		v, ok := conservationv1.Flow_value["FLOW_"+strings.ToUpper(f.flow)]
		if !ok || v == 0 {
			return nil, usage("--flow is in, out or internal, not %q", f.flow)
		}
		d.Flow = conservationv1.Flow(v)
	}
	for role, list := range map[conservationv1.AgentRole][]string{
		conservationv1.AgentRole_AGENT_ROLE_AUTHOR: f.authors, conservationv1.AgentRole_AGENT_ROLE_RECIPIENT: f.recipients,
	} {
		for _, text := range list {
			parts := append(strings.Split(text, ";"), "", "")
			d.Agents = append(d.Agents, &conservationv1.DocumentAgent{Role: role, Name: parts[0], VatNumber: parts[1], TaxCode: parts[2]})
		}
	}
	return d, nil
}

// sendDeposit uploads from where an earlier upload stopped.
func sendDeposit(ctx context.Context, api conservationv1.DepositServiceClient, head *conservationv1.DepositHead, file *os.File, from int64) (*conservationv1.Deposit, error) {
	stream, err := api.CreateDeposit(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&conservationv1.CreateDepositRequest{Part: &conservationv1.CreateDepositRequest_Head{Head: head}})
	if err == nil {
		_, err = file.Seek(from, io.SeekStart)
	}
	for buf := make([]byte, uploadChunk); err == nil; {
		var n int
		n, err = file.Read(buf)
		if n > 0 {
			sent := stream.Send(&conservationv1.CreateDepositRequest{Part: &conservationv1.CreateDepositRequest_Chunk{Chunk: &conservationv1.DepositChunk{Offset: from, Data: buf[:n]}}})
			if sent != nil {
				break // the answer says why
			}
			from += int64(n)
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return stream.CloseAndRecv()
}

func (c *cli) showDeposit(d *conservationv1.Deposit) {
	c.fields("name", d.GetName(), "key", d.GetKey(), "state", enum("DEPOSIT_STATE_", d.GetState()), "file", d.GetFileName(), "size", d.GetSize(), "received", d.GetReceivedBytes(),
		"sha256", fmt.Sprintf("%x", d.GetSha256()), "format", d.GetFormat(), "class", d.GetClass(), "fiscal year", d.GetFiscalYear(), "unit", d.GetUnit(),
		"created", when(d.GetCreateTime()), "ended", when(d.GetEndTime()), "report", when(d.GetReportTime()))
	for _, p := range d.GetProblems() {
		fmt.Fprintf(c.out, "  ! %s: %s\n", p.GetCode(), printable(p.GetMessage()))
	}
	if d.GetState() == conservationv1.DepositState_DEPOSIT_STATE_REFUSED {
		fmt.Fprintf(c.out, "attempts left: %d\n", d.GetAttemptsLeft())
	}
}

func (c *cli) depositsCommand() *cobra.Command {
	var state string
	cmd := c.lister(verb("deposits [DEPOSIT]", "What was handed over, newest first; or one of it, with its problems", args("[DEPOSIT]"), func(ctx context.Context, given []string) error {
		api, tenant, err := c.deposits()
		if err != nil {
			return err
		}
		if len(given) == 1 {
			name, err := c.within("deposits", given[0])
			if err != nil {
				return err
			}
			d, err := api.GetDeposit(ctx, &conservationv1.GetDepositRequest{Name: name})
			if err != nil {
				return err
			}
			return c.print(d, func() { c.showDeposit(d) })
		}
		want, err := enumOf("state", "DEPOSIT_STATE_", state, conservationv1.DepositState_value)
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*conservationv1.ListDepositsResponse, error) {
			return api.ListDeposits(ctx, &conservationv1.ListDepositsRequest{Parent: tenant, State: conservationv1.DepositState(want), PageSize: size, PageToken: token})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, d := range page.GetDeposits() {
				rows = append(rows, []string{last(d.GetName()), d.GetKey(), enum("DEPOSIT_STATE_", d.GetState()), d.GetFileName(), d.GetFormat(), d.GetClass(), fmt.Sprint(d.GetFiscalYear()), last(d.GetUnit()), when(d.GetReportTime())})
			}
			c.table([]string{"DEPOSIT", "KEY", "STATE", "FILE", "FORMAT", "CLASS", "YEAR", "UNIT", "REPORT"}, rows)
		})
	}))
	cmd.Flags().StringVar(&state, "state", "", "only receiving, accepted, refused or conflict")
	return cmd
}

func (c *cli) conflictsCommand() *cobra.Command {
	return verb("conflicts", "Keys under which other bytes came than those that are held, and how they were resolved", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.deposits()
		if err != nil {
			return err
		}
		list, err := api.ListConflicts(ctx, &conservationv1.ListConflictsRequest{Parent: tenant})
		if err != nil {
			return err
		}
		return c.print(list, func() {
			var rows [][]string
			for _, x := range list.GetConflicts() {
				rows = append(rows, []string{last(x.GetName()), x.GetKey(), last(x.GetUnit()), when(x.GetCreateTime()), enum("CONFLICT_RESOLUTION_", x.GetResolution()), x.GetResolvedBy(), x.GetReason()})
			}
			c.table([]string{"CONFLICT", "KEY", "HELD BY", "SINCE", "RESOLUTION", "BY", "REASON"}, rows)
		})
	})
}

func (c *cli) resolveCommand() *cobra.Command {
	var which, reason string
	cmd := verb("resolve CONFLICT", "End a conflict: keep what is held and refuse the other, or take the other in as a document of its own", args("CONFLICT"), func(ctx context.Context, given []string) error {
		want, err := enumOf("keep", "CONFLICT_RESOLUTION_KEEP_", which, conservationv1.ConflictResolution_value)
		if err != nil || want == 0 || reason == "" {
			return usage("--keep held or both, and --reason with why, are needed")
		}
		api, _, err := c.deposits()
		if err != nil {
			return err
		}
		name, err := c.within("conflicts", given[0])
		if err != nil {
			return err
		}
		x, err := api.ResolveConflict(ctx, &conservationv1.ResolveConflictRequest{Name: name, Resolution: conservationv1.ConflictResolution(want), Reason: reason})
		if err != nil {
			return err
		}
		return c.print(x, func() {
			c.fields("name", x.GetName(), "key", x.GetKey(), "resolution", enum("CONFLICT_RESOLUTION_", x.GetResolution()), "by", x.GetResolvedBy(), "deposit", x.GetDeposit())
		})
	})
	cmd.Flags().StringVar(&which, "keep", "", "held or both")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return cmd
}

func (c *cli) formatsCommand() *cobra.Command {
	return verb("formats", "The formats that the archive admits (Allegato 2)", args(), func(ctx context.Context, _ []string) error {
		api, _, err := c.deposits()
		if err != nil {
			return err
		}
		list, err := api.ListFormats(ctx, &conservationv1.ListFormatsRequest{})
		if err != nil {
			return err
		}
		return c.print(list, func() {
			var rows [][]string
			for _, f := range list.GetFormats() {
				admitted := "yes"
				if !f.GetAdmitted() {
					admitted = "no"
				}
				rows = append(rows, []string{f.GetName(), admitted, strings.Join(f.GetExtensions(), " "), f.GetMediaType(), f.GetNote()})
			}
			c.table([]string{"FORMAT", "ADMITTED", "ENDINGS", "MEDIA TYPE", "NOTE"}, rows)
		})
	})
}
