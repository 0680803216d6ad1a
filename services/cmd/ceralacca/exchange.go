package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

// exchangeCommands are what operators, and tenants for their own, see and decide about the way to SdI.
func (c *cli) exchangeCommands() []*cobra.Command {
	return []*cobra.Command{
		c.sdiPending(), c.sdiDeadlines(), c.sdiHealth(), c.sdiPause(), c.sdiResume(), c.sdiPauses(), c.sdiResend(), c.sdiClaim(), c.sdiReconcile(), c.sdiPoll(), c.sdiDescribe(),
	}
}

func (c *cli) exchange() (sdiv1.SdiOperationsServiceClient, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	return sdiv1.NewSdiOperationsServiceClient(conn), nil
}

// tenantOrAll is the tenant, or all of them when none is named: operators may ask so.
func (c *cli) tenantOrAll() (string, error) {
	if c.tenant == "" {
		return "tenants/-", nil
	}
	return c.tenantName()
}

func (c *cli) sdiPending() *cobra.Command {
	var reason, before string
	cmd := c.lister(verb("pending", "Files that have not reached SdI, in the order in which they should leave, and why they wait", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.tenantOrAll()
		if err != nil {
			return err
		}
		created, err := parseTime("created-before", before)
		if err != nil {
			return err
		}
		api, err := c.exchange()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*sdiv1.ListPendingResponse, error) {
			return api.ListPending(ctx, &sdiv1.ListPendingRequest{Parent: parent, Reason: strings.ToUpper(reason), CreatedBefore: created, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, t := range page.GetTransmissions() {
				rows = append(rows, []string{t.GetName(), t.GetFileName(), when(t.GetSendByTime()), fmt.Sprint(t.GetAttempts()), when(t.GetNextAttemptTime()), t.GetHeld()})
			}
			c.table([]string{"TRANSMISSION", "FILE", "SEND BY", "ATTEMPTS", "NOT BEFORE", "WHY"}, rows)
		})
	}))
	cmd.Flags().StringVar(&reason, "reason", "", "only what waits for paused, outage, draining or retry")
	cmd.Flags().StringVar(&before, "created-before", "", "only what was promised before")
	return cmd
}

func (c *cli) sdiDeadlines() *cobra.Command {
	var kind, before string
	var overdue bool
	cmd := c.lister(verb("deadlines", "Legal terms that run or have passed, the nearest first", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.tenantOrAll()
		if err != nil {
			return err
		}
		wanted, err := enumOf("kind", "DEADLINE_KIND_", kind, sdiv1.DeadlineKind_value)
		if err != nil {
			return err
		}
		due, err := parseTime("due-before", before)
		if err != nil {
			return err
		}
		api, err := c.exchange()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*sdiv1.ListDeadlinesResponse, error) {
			return api.ListDeadlines(ctx, &sdiv1.ListDeadlinesRequest{Parent: parent, Kind: sdiv1.DeadlineKind(wanted), Overdue: overdue, DueBefore: due, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, d := range page.GetDeadlines() {
				state := ""
				if d.GetOverdue() {
					state = "PASSED"
				}
				rows = append(rows, []string{when(d.GetDueTime()), state, enum("DEADLINE_KIND_", d.GetKind()), d.GetInvoice(), d.GetSdiId(), d.GetAdvice()})
			}
			c.table([]string{"DUE", "", "TERM", "INVOICE", "SDI ID", "WHAT IT MEANS"}, rows)
		})
	}))
	cmd.Flags().StringVar(&kind, "kind", "", "only receipt, resend, outcome or attestation")
	cmd.Flags().BoolVar(&overdue, "overdue", false, "only those that have passed")
	cmd.Flags().StringVar(&before, "due-before", "", "only those that end before")
	return cmd
}

func (c *cli) sdiHealth() *cobra.Command {
	return verb("health", "How the way to SdI is: outage, backlog, rate, pauses (operators)", args(), func(ctx context.Context, _ []string) error {
		api, err := c.exchange()
		if err != nil {
			return err
		}
		h, err := api.GetSendingHealth(ctx, &sdiv1.GetSendingHealthRequest{})
		if err != nil {
			return err
		}
		return c.print(h, func() {
			rate := "no bound"
			if h.GetDrainRate() > 0 {
				rate = fmt.Sprintf("%v files/s", h.GetDrainRate())
			}
			c.fields("transmitter", h.GetTransmitter(), "endpoint", h.GetEndpoint(), "state", enum("STATE_", h.GetState()), "breaker", h.GetBreaker(),
				"away since", when(h.GetOutageSinceTime()), "trials", h.GetFailures(), "next trial", when(h.GetNextTrialTime()), "last error", h.GetLastError(),
				"last taken", when(h.GetLastSuccessTime()), "backlog leaves at", rate)
			if len(h.GetBacklog()) > 0 {
				fmt.Fprintln(c.out)
				var rows [][]string
				for _, b := range h.GetBacklog() {
					why := b.GetReason()
					if why == "" {
						why = "with the workers"
					}
					rows = append(rows, []string{why, fmt.Sprint(b.GetFiles()), when(b.GetOldestTime())})
				}
				c.table([]string{"WAITS", "FILES", "OLDEST"}, rows)
			}
			if len(h.GetPauses()) > 0 {
				fmt.Fprintln(c.out)
				c.pauseTable(h.GetPauses())
			}
		})
	})
}

func (c *cli) pauseTable(pauses []*sdiv1.Pause) {
	var rows [][]string
	for _, p := range pauses {
		of := p.GetCompany()
		if of == "" {
			of, _, _ = strings.Cut(strings.TrimPrefix(p.GetName(), "pauses/"), "/pauses/")
			if strings.HasPrefix(p.GetName(), "pauses/") {
				of = "everything"
			}
		}
		rows = append(rows, []string{p.GetName(), of, when(p.GetStartTime()), when(p.GetEndTime()), when(p.GetResumeTime()), fmt.Sprint(p.GetWaiting()), p.GetCreator(), p.GetReason()})
	}
	c.table([]string{"PAUSE", "OF", "FROM", "UNTIL", "RESUMED", "FILES", "BY", "REASON"}, rows)
}

func (c *cli) sdiPause() *cobra.Command {
	var company, reason, from, until string
	var all bool
	cmd := verb("pause", "Stop sending, now or at a time: of a tenant, of one company, or of everything (operators)", args(), func(ctx context.Context, _ []string) error {
		if reason == "" {
			return usage("no reason: give --reason, it is shown at every file that waits")
		}
		req := &sdiv1.PauseSendingRequest{Reason: reason, RequestId: uuid.NewString()}
		var err error
		switch {
		case all && (company != "" || c.tenant != ""):
			return usage("--all is everything: leave --tenant and --company out")
		case company != "":
			req.Parent, err = c.within("companies", company)
		case !all:
			req.Parent, err = c.tenantName()
		}
		if err == nil {
			req.StartTime, err = parseTime("from", from)
		}
		if err == nil {
			req.EndTime, err = parseTime("until", until)
		}
		if err != nil {
			return err
		}
		api, err := c.exchange()
		if err != nil {
			return err
		}
		p, err := api.PauseSending(ctx, req)
		if err != nil {
			return err
		}
		return c.print(p, func() { c.pauseTable([]*sdiv1.Pause{p}) })
	})
	cmd.Flags().BoolVar(&all, "all", false, "the whole transmitter (operators)")
	cmd.Flags().StringVar(&company, "company", os.Getenv("CERALACCA_COMPANY"), "only this company (CERALACCA_COMPANY)")
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	cmd.Flags().StringVar(&from, "from", "", "when it begins; now when empty")
	cmd.Flags().StringVar(&until, "until", "", "when sending resumes by itself; never when empty")
	return cmd
}

func (c *cli) sdiResume() *cobra.Command {
	return verb("resume PAUSE", "End a pause, or call off a scheduled one; what it held leaves in order", args("PAUSE"), func(ctx context.Context, given []string) error {
		api, err := c.exchange()
		if err != nil {
			return err
		}
		p, err := api.ResumeSending(ctx, &sdiv1.ResumeSendingRequest{Name: given[0]})
		if err != nil {
			return err
		}
		return c.print(p, func() { c.pauseTable([]*sdiv1.Pause{p}) })
	})
}

func (c *cli) sdiPauses() *cobra.Command {
	var open, all bool
	cmd := c.lister(verb("pauses", "Pauses of sending, newest first", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.tenantOrAll()
		if all {
			parent = ""
		}
		if err != nil {
			return err
		}
		api, err := c.exchange()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*sdiv1.ListPausesResponse, error) {
			return api.ListPauses(ctx, &sdiv1.ListPausesRequest{Parent: parent, Open: open, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() { c.pauseTable(page.GetPauses()) })
	}))
	cmd.Flags().BoolVar(&open, "open", false, "only those in force or scheduled")
	cmd.Flags().BoolVar(&all, "all", false, "those of the whole transmitter (operators)")
	return cmd
}

func (c *cli) sdiResend() *cobra.Command {
	var reason string
	cmd := verb("resend TRANSMISSION", "Send a file now that waits or was given up, under its own name; refused while its outcome is known or may still come (operators)", args("TRANSMISSION"), func(ctx context.Context, given []string) error {
		if reason == "" {
			return usage("no reason: give --reason, it goes into the audit record")
		}
		api, err := c.exchange()
		if err != nil {
			return err
		}
		t, err := api.ResendTransmission(ctx, &sdiv1.ResendTransmissionRequest{Name: given[0], Reason: reason})
		if err != nil {
			return err
		}
		return c.print(t, func() { fmt.Fprintln(c.out, "will be sent again:", t.GetFileName()) })
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

func (c *cli) sdiClaim() *cobra.Command {
	var reason string
	cmd := verb("claim MESSAGE TRANSMISSION", "Attach an unmatched message to a transmission, by your decision (operators)", args("MESSAGE", "TRANSMISSION"), func(ctx context.Context, given []string) error {
		if reason == "" {
			return usage("no reason: give --reason, it goes into the audit record and stays at the message")
		}
		api, err := c.exchange()
		if err != nil {
			return err
		}
		t, err := api.ClaimMessage(ctx, &sdiv1.ClaimMessageRequest{Name: prefixed("messages/", given[0]), Transmission: given[1], Reason: reason})
		if err != nil {
			return err
		}
		return c.print(t, func() {
			c.fields("transmission", t.GetName(), "state", enum("TRANSMISSION_STATE_", t.GetState()),
				"light", strings.ToLower(enum("TRAFFIC_LIGHT_", t.GetLight())), "why", t.GetLightReason())
		})
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

func (c *cli) sdiReconcile() *cobra.Command {
	var from, to, dir, list string
	cmd := verb("reconcile", "Try unmatched messages again, and list files about which a message is missing, with the requests of re-delivery to make (operators)", args(), func(ctx context.Context, _ []string) error {
		req := &sdiv1.ReconcileRequest{}
		for flag, bound := range map[string]struct {
			text string
			to   **timestamppb.Timestamp
		}{"from": {from, &req.FromTime}, "to": {to, &req.ToTime}} {
			at, err := parseTime(flag, bound.text)
			if err != nil {
				return err
			}
			*bound.to = at
		}
		api, err := c.exchange()
		if err != nil {
			return err
		}
		if list != "" {
			return c.compareStatement(ctx, api, list, req)
		}
		r, err := api.Reconcile(ctx, req)
		if err != nil {
			return err
		}
		if dir != "" {
			err = writeReconciliation(dir, r)
			if err != nil {
				return err
			}
		}
		return c.print(r, func() { c.showReconciliation(r) })
	})
	cmd.Long = cmd.Short + `.

SdI's services of reconciliation (quadratura) and re-delivery (reinoltro) take periods of at most 15 days and leave the
last 15 days out. Each line of REQUEST is one request that they take; it is made by a person, in the portal or with the
service that the accreditation gives access to: this tool never calls them.

With --list a list of files that SdI has is compared with the books instead: a CSV with a header and columns
identificativo_sdi, nome_file and stato (the first two or one of them; commas, semicolons or tabs; other columns are
left alone). stato is the last message of SdI: RC, MC, NS, NE, DT, AT, RICEVUTO or empty, or the words of the portal.
With --from and --to the list is taken as complete for the files sent then, and what it lacks is a difference too.
What differs is said in words, kept (ceralacca sdi differences) and told once; no state changes by it. Exit code 1
when something differs.`
	cmd.Flags().StringVar(&list, "list", "", "CSV file of what SdI has, to compare the books with; - is standard input")
	cmd.Flags().StringVar(&from, "from", "", "of files sent from here on; the last 90 days when empty")
	cmd.Flags().StringVar(&to, "to", "", "and before; now when empty")
	cmd.Flags().StringVar(&dir, "output", "", "folder to write into: quadratura.csv with every file that lacks a message, and one reinoltro_FIRST_LAST.csv for each request")
	return cmd
}

func (c *cli) sdiPoll() *cobra.Command {
	return verb("poll", "Look now at what is otherwise looked at in turns: terms, backlog, channels, supports that gather or wait (operators)", args(), func(ctx context.Context, _ []string) error {
		api, err := c.exchange()
		if err != nil {
			return err
		}
		r, err := api.TriggerPoll(ctx, &sdiv1.TriggerPollRequest{})
		if err != nil {
			return err
		}
		return c.print(r, func() {
			c.fields("terms told", r.GetTermsTold(), "drainers woken", r.GetDrainersWoken(), "supports gathered", r.GetSupportsGathered(), "supports read again", r.GetSupportsReread())
		})
	})
}

func (c *cli) showReconciliation(r *sdiv1.ReconcileResponse) {
	fmt.Fprintf(c.out, "%d unmatched messages found their file, %d are left\n", r.GetMatched(), r.GetUnmatched())
	fmt.Fprintf(c.out, "%d files lack a message; %d of them are of the last 15 days: look those up in the portal\n", len(r.GetMissing()), r.GetTooRecent())
	if len(r.GetMissing()) > 0 {
		fmt.Fprintln(c.out)
		var rows [][]string
		for _, m := range r.GetMissing() {
			rows = append(rows, []string{when(m.GetSendTime()), m.GetFileName(), m.GetSdiId(), enum("DEADLINE_KIND_", m.GetKind()), when(m.GetDueTime()), hex.EncodeToString(m.GetFileSha256())})
		}
		c.table([]string{"SENT", "FILE", "SDI ID", "OWED", "SINCE", "SHA-256"}, rows)
	}
	if len(r.GetRequests()) > 0 {
		fmt.Fprintln(c.out)
		var rows [][]string
		for i, q := range r.GetRequests() {
			rows = append(rows, []string{fmt.Sprint(i + 1), q.GetFirstDay(), q.GetLastDay(), strings.Join(q.GetSdiIds(), " ")})
		}
		c.table([]string{"REQUEST", "FROM", "TO", "SDI IDS"}, rows)
	}
	if r.GetMore() {
		fmt.Fprintln(c.errOut, "there are more; give --from and --to for a shorter period")
	}
}
