package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

func (c *cli) pecDesk() (pecv1.PecDeskServiceClient, error) {
	conn, err := c.dial()
	return pecv1.NewPecDeskServiceClient(conn), err
}

// atMailbox runs fn with the full name of the mailbox that is given.
func (c *cli) atMailbox(use, short string, positional cobra.PositionalArgs, fn func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, given []string) error) *cobra.Command {
	return verb(use, short, positional, func(ctx context.Context, given []string) error {
		mailbox, err := c.pecMailbox(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.pecDesk()
		if err != nil {
			return err
		}
		return fn(ctx, api, mailbox, given[1:])
	})
}

func (c *cli) pecFolderCommand() *cobra.Command {
	show := func(f *pecv1.Folder) error {
		return c.print(f, func() { c.fields("folder", f.GetName(), "messages", f.GetMessages()) })
	}
	return group("folder", "Folders of our own, in which messages are filed; the provider's are not touched",
		c.atMailbox("ls MAILBOX", "Folders made here, and those in which messages stand", args("MAILBOX"), func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, _ []string) error {
			list, err := api.ListFolders(ctx, &pecv1.ListFoldersRequest{Parent: mailbox})
			if err != nil {
				return err
			}
			return c.print(list, func() {
				var rows [][]string
				for _, f := range list.GetFolders() {
					rows = append(rows, []string{f.GetName(), map[bool]string{true: "ours", false: "provider's"}[f.GetOwn()], fmt.Sprint(f.GetMessages())})
				}
				c.table([]string{"FOLDER", "WHOSE", "MESSAGES"}, rows)
			})
		}),
		c.atMailbox("make MAILBOX FOLDER", "Make a folder", args("MAILBOX", "FOLDER"), func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, given []string) error {
			f, err := api.CreateFolder(ctx, &pecv1.CreateFolderRequest{Parent: mailbox, Folder: given[0]})
			if err != nil {
				return err
			}
			return show(f)
		}),
		c.atMailbox("rename MAILBOX FOLDER NAME", "Give a folder another name", args("MAILBOX", "FOLDER", "NAME"), func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, given []string) error {
			f, err := api.RenameFolder(ctx, &pecv1.RenameFolderRequest{Parent: mailbox, Folder: given[0], NewName: given[1]})
			if err != nil {
				return err
			}
			return show(f)
		}),
		c.atMailbox("rm MAILBOX FOLDER", "Remove a folder that is empty", args("MAILBOX", "FOLDER"), func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, given []string) error {
			_, err := api.DeleteFolder(ctx, &pecv1.DeleteFolderRequest{Parent: mailbox, Folder: given[0]})
			return err
		}))
}

// some wants a mailbox and one thing more at least.
func some(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, given []string) error {
		if len(given) < 2 {
			return usage("give MAILBOX and at least one %s", what)
		}
		return nil
	}
}

// ofMailbox are the full names of messages of a mailbox: ids will do.
func ofMailbox(mailbox string, given []string) []string {
	var out []string
	for _, g := range given {
		if !strings.HasPrefix(g, "tenants/") {
			g = mailbox + "/messages/" + g
		}
		out = append(out, g)
	}
	return out
}

func (c *cli) pecMove() *cobra.Command {
	var folder string
	cmd := c.atMailbox("move MAILBOX MESSAGE...", "File messages into a folder of our own", some("MESSAGE"), func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, given []string) error {
		if err := need("to", folder); err != nil {
			return err
		}
		got, err := api.MoveMessages(ctx, &pecv1.MoveMessagesRequest{Parent: mailbox, Messages: ofMailbox(mailbox, given), Folder: folder})
		if err != nil {
			return err
		}
		return c.print(got, func() { c.fields("moved", got.GetMoved()) })
	})
	cmd.Flags().StringVar(&folder, "to", "", "folder, one that exists")
	return cmd
}

// pecHeaders answers who really sent a message.
func (c *cli) pecHeaders() *cobra.Command {
	return verb("headers MAILBOX/MESSAGE", "Who really sent a message: what the provider certifies, beside the header of the envelope as it stands", args("MAILBOX/MESSAGE"), func(ctx context.Context, given []string) error {
		name, err := c.pecMessageName(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.pec()
		if err != nil {
			return err
		}
		m, err := api.GetMessage(ctx, &pecv1.GetMessageRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(m, func() {
			switch {
			case m.GetProven():
				fmt.Fprintf(c.out, "certified: sent by %s, as %s certifies (signature %s)\n\n", m.GetCertifiedSender(), m.GetVerification().GetProvider(), m.GetVerification().GetStatus())
			case m.GetDirection() == pecv1.MessageDirection_MESSAGE_DIRECTION_SENT:
				fmt.Fprint(c.out, "sent by this mailbox\n\n")
			default:
				fmt.Fprintf(c.out, "NOT CERTIFIED: it claims to be from %s, and nothing proves it\n\n", m.GetFrom())
			}
			for _, f := range m.GetHeaders() {
				fmt.Fprintf(c.out, "%s: %s\n", f.GetName(), strings.Join(strings.Fields(f.GetValue()), " "))
			}
		})
	})
}

func (c *cli) pecHub() *cobra.Command {
	return verb("hub", "All mailboxes at a glance, those that need somebody first", args(), func(ctx context.Context, _ []string) error {
		tenant, err := c.tenantName()
		if err != nil {
			return err
		}
		api, err := c.pecDesk()
		if err != nil {
			return err
		}
		hub, err := api.GetHub(ctx, &pecv1.GetHubRequest{Parent: tenant})
		if err != nil {
			return err
		}
		return c.print(hub, func() {
			var rows [][]string
			for _, e := range hub.GetEntries() {
				read := when(e.GetLastPollTime())
				if s := e.GetSync(); !s.GetDone() {
					read = fmt.Sprintf("first reading, %d of %d", s.GetFetched(), s.GetTotal())
				}
				rows = append(rows, []string{e.GetAddress(), enum("MAILBOX_STATE_", e.GetState()), read, when(e.GetLastSendTime()), fmt.Sprint(e.GetWaiting()), quotaText(e.GetQuota()),
					e.GetExpireDate(), e.GetPasswordExpireDate(), e.GetSendingHeld(), strings.Join(e.GetTroubles(), " ")})
			}
			c.table([]string{"MAILBOX", "STATE", "LAST LOOK", "LAST SENT", "WAITING", "ROOM", "ENDS", "PASSWORD ENDS", "SENDING", "TROUBLE"}, rows)
			fmt.Fprintf(c.out, "%d mailboxes, %d need somebody; %d messages wait, %d want a decision, %d are in quarantine\n", hub.GetMailboxes(), hub.GetTroubled(), hub.GetWaiting(),
				hub.GetUndecided(), hub.GetQuarantined())
		})
	})
}

func (c *cli) pecProviders() *cobra.Command {
	return verb("providers", "Providers whose servers are known, with their limits", args(), func(ctx context.Context, _ []string) error {
		api, err := c.pecDesk()
		if err != nil {
			return err
		}
		list, err := api.ListProviderPresets(ctx, &pecv1.ListProviderPresetsRequest{})
		if err != nil {
			return err
		}
		return c.print(list, func() {
			var rows [][]string
			for _, p := range list.GetPresets() {
				rows = append(rows, []string{p.GetProvider(), p.GetServers().GetImap(), p.GetServers().GetPop3(), p.GetServers().GetSmtp(), fmt.Sprint(p.GetMaxRecipients()),
					fmt.Sprint(p.GetMaxVolume() / 1_000_000), fmt.Sprint(p.GetPerMinute()), p.GetNote()})
			}
			c.table([]string{"PROVIDER", "IMAP", "POP3", "SMTP", "RECIPIENTS", "MB", "A MINUTE", "NOTE"}, rows)
		})
	})
}

func (c *cli) pecPolicyCommand() *cobra.Command {
	show := func(p *pecv1.MailboxPolicy) error {
		return c.print(p, func() { c.showPolicy(p) })
	}
	// What a flag of fields changes is the field, and nothing beside it; without fields the paths are changed.
	change := func(use, short string, paths []string, fields map[string]string, flags func(*cobra.Command, *pecv1.MailboxPolicy), fill func(p *pecv1.MailboxPolicy) error) *cobra.Command {
		p := &pecv1.MailboxPolicy{}
		var cmd *cobra.Command
		cmd = c.atMailbox(use, short, args("MAILBOX"), func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, _ []string) error {
			if fill != nil {
				if err := fill(p); err != nil {
					return err
				}
			}
			mask := &fieldmaskpb.FieldMask{Paths: paths}
			for _, flag := range slices.Sorted(maps.Keys(fields)) {
				if cmd.Flags().Changed(flag) {
					mask.Paths = append(mask.Paths, fields[flag])
				}
			}
			if len(mask.Paths) == 0 {
				return usage("name what is to change: --%s", strings.Join(slices.Sorted(maps.Keys(fields)), ", --"))
			}
			p.Name = mailbox + "/policy"
			got, err := api.UpdateMailboxPolicy(ctx, &pecv1.UpdateMailboxPolicyRequest{Policy: p, UpdateMask: mask})
			if err != nil {
				return err
			}
			return show(got)
		})
		flags(cmd, p)
		return cmd
	}
	var file string
	rules := change("rules MAILBOX", "Replace the rules for mail that comes in, from a file", []string{"rules"}, nil, func(cmd *cobra.Command, _ *pecv1.MailboxPolicy) {
		cmd.Flags().StringVar(&file, "file", "", "rules as JSON: {\"rules\": [{\"scope\": \"RULE_SCOPE_ORDINARY\", \"action\": \"RULE_ACTION_FORWARD\", \"forward_to\": \"ufficio@example.com\"}]}; - for standard input")
		cmd.Long = cmd.Short + ".\n\nThe first rule that fits counts. Scopes: RULE_SCOPE_MAIL, CERTIFIED, ORDINARY, RECEIPTS; actions: RULE_ACTION_KEEP, MOVE (folder), REJECT and FORWARD (of ORDINARY only).\n" +
			"REJECT keeps mail in quarantine: it was delivered before anybody could refuse it. `policy get --format json` shows the present rules in this form."
	}, func(p *pecv1.MailboxPolicy) error {
		if err := need("file", file); err != nil {
			return err
		}
		raw, err := c.readFlag("--file", file, largestFile)
		if err != nil {
			return err
		}
		in := &pecv1.MailboxPolicy{}
		if err := protojson.Unmarshal(raw, in); err != nil {
			return usage("--file: %s: %s; see ceralacca pec policy rules --help for the form", file, notThisJSON(raw, err))
		}
		p.Rules = in.GetRules()
		return nil
	})
	notice := change("notice MAILBOX", "Tell ordinary addresses of mail that comes in: sender, recipient and subject only; change what the flags name", nil, map[string]string{
		"address": "notice.addresses", "only-from": "notice.senders", "language": "notice.language",
	}, func(cmd *cobra.Command, p *pecv1.MailboxPolicy) {
		p.Notice = &pecv1.IncomingNotice{}
		cmd.Flags().StringSliceVar(&p.Notice.Addresses, "address", nil, "address to tell, two at most; \"\" ends the notices")
		cmd.Flags().StringSliceVar(&p.Notice.Senders, "only-from", nil, "only of these senders, as an address or @domain; \"\" of all")
		cmd.Flags().StringVar(&p.Notice.Language, "language", "", "it or en")
	}, nil)
	preserve := change("preserve MAILBOX", "Hand everything over to preservation, day by day", []string{"preservation"}, nil, func(cmd *cobra.Command, p *pecv1.MailboxPolicy) {
		p.Preservation = &pecv1.PreservationRule{}
		cmd.Flags().BoolVar(&p.Preservation.Daily, "daily", true, "day by day; --daily=false ends it")
		cmd.Flags().BoolVar(&p.Preservation.Earlier, "earlier", false, "also what came before")
	}, nil)
	terms := change("terms MAILBOX", "Until when a mailbox and its password live, and whether it sends; change what the flags name", nil, map[string]string{
		"expires": "terms.expire_date", "password-days": "terms.password_days", "password-set": "terms.password_set_date", "no-sending": "terms.sending_suspended",
	}, func(cmd *cobra.Command, p *pecv1.MailboxPolicy) {
		p.Terms = &pecv1.MailboxTerms{}
		cmd.Flags().StringVar(&p.Terms.ExpireDate, "expires", "", "last day of the contract, as 2027-01-31; afterwards nothing is sent; \"\" is none")
		cmd.Flags().Int32Var(&p.Terms.PasswordDays, "password-days", 0, "days after which the provider wants another password; 0: it does not")
		cmd.Flags().StringVar(&p.Terms.PasswordSetDate, "password-set", "", "day on which the password was made at the provider, as 2026-11-30; \"\" is the one on which it was given here")
		cmd.Flags().BoolVar(&p.Terms.SendingSuspended, "no-sending", false, "send nothing, go on receiving; --no-sending=false sends again")
	}, nil)
	room := change("room MAILBOX", "Remove the oldest messages at the provider before the mailbox is full; here all are kept", []string{"room.enabled"}, map[string]string{
		"at": "room.at_percent", "to": "room.to_percent", "keep-days": "room.keep_days", "preserved-only": "room.preserved_only",
	}, func(cmd *cobra.Command, p *pecv1.MailboxPolicy) {
		p.Room = &pecv1.RoomRule{}
		cmd.Long = cmd.Short + ".\n\nOver IMAP only. Before a message is removed it is fetched once more and compared with the archive, byte by byte by its hash."
		cmd.Flags().BoolVar(&p.Room.Enabled, "enabled", true, "--enabled=false ends it")
		cmd.Flags().Int32Var(&p.Room.AtPercent, "at", 0, "from so many percent of the room on (90)")
		cmd.Flags().Int32Var(&p.Room.ToPercent, "to", 0, "down to so many percent (70)")
		cmd.Flags().Int32Var(&p.Room.KeepDays, "keep-days", 0, "messages younger than this stay (30)")
		cmd.Flags().BoolVar(&p.Room.PreservedOnly, "preserved-only", false, "only what is in a sealed package of preservation")
	}, nil)
	return group("policy", "How a mailbox is run: rules, notices, preservation, terms, room",
		c.atMailbox("get MAILBOX", "Show it", args("MAILBOX"), func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, _ []string) error {
			p, err := api.GetMailboxPolicy(ctx, &pecv1.GetMailboxPolicyRequest{Name: mailbox + "/policy"})
			if err != nil {
				return err
			}
			return show(p)
		}), rules, notice, preserve, terms, room)
}

func (c *cli) showPolicy(p *pecv1.MailboxPolicy) {
	t, n := p.GetTerms(), p.GetNotice()
	daily := "chosen messages only"
	if p.GetPreservation().GetDaily() {
		daily = "every day"
		if s := p.GetPreservation().GetStartTime(); s != nil {
			daily += ", from " + when(s)
		}
	}
	c.fields("preservation", daily, "notices to", strings.Join(n.GetAddresses(), " "), "only from", strings.Join(n.GetSenders(), " "), "mailbox ends", t.GetExpireDate(),
		"room at the provider", roomText(p.GetRoom()), "password set", t.GetPasswordSetDate(), "password ends", t.GetPasswordExpireDate(), "sending", map[bool]string{true: "suspended by its owner"}[t.GetSendingSuspended()])
	var rows [][]string
	for i, r := range p.GetRules() {
		rows = append(rows, []string{fmt.Sprint(i + 1), r.GetDisplayName(), enum("RULE_SCOPE_", r.GetScope()), strings.Join(r.GetSenders(), " "), r.GetSubject(),
			strings.TrimSpace(enum("RULE_ACTION_", r.GetAction()) + " " + r.GetFolder() + r.GetForwardTo()), map[bool]string{true: "yes"}[r.GetNotify()]})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.out)
		c.table([]string{"RULE", "NAME", "SCOPE", "SENDERS", "SUBJECT", "ACTION", "NOTIFY"}, rows)
	}
}

func roomText(r *pecv1.RoomRule) string {
	if !r.GetEnabled() {
		return "nothing is removed"
	}
	text := fmt.Sprintf("made from %d %% on, down to %d %%, of messages older than %d days", cmp.Or(r.GetAtPercent(), 90), cmp.Or(r.GetToPercent(), 70), cmp.Or(r.GetKeepDays(), 30))
	if r.GetPreservedOnly() {
		text += ", preserved ones only"
	}
	return text
}

func (c *cli) pecAccessCommand() *cobra.Command {
	show := func(p *pecv1.MailboxPermissions) error {
		return c.print(p, func() {
			var rows [][]string
			for _, g := range p.GetGrants() {
				rows = append(rows, []string{g.GetCaller(), enum("MAILBOX_RIGHT_", g.GetRight())})
			}
			c.table([]string{"CALLER", "RIGHT"}, rows)
			if len(rows) == 0 {
				fmt.Fprintln(c.out, "every key of the tenant with the scopes may do everything")
			}
		})
	}
	var grants []string
	var everybody bool
	set := c.atMailbox("set MAILBOX", "Replace who may do what with a mailbox", args("MAILBOX"), func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, _ []string) error {
		p := &pecv1.MailboxPermissions{Name: mailbox}
		if everybody == (len(grants) > 0) {
			return usage("say who may do what: --grant key:ID=manage, once for each, or --everybody, which empties the list and opens the mailbox to every key of the tenant with the scopes")
		}
		for _, g := range grants {
			caller, right, both := strings.Cut(g, "=")
			if !both || right == "" {
				return usage("--grant %q says no right: write it as key:ID=read, with read, send or manage", g)
			}
			n, err := enumOf("grant", "MAILBOX_RIGHT_", right, pecv1.MailboxRight_value)
			if err != nil {
				return err
			}
			p.Grants = append(p.Grants, &pecv1.MailboxGrant{Caller: caller, Right: pecv1.MailboxRight(n)})
		}
		got, err := api.SetMailboxAccess(ctx, &pecv1.SetMailboxAccessRequest{Permissions: p})
		if err != nil {
			return err
		}
		return show(got)
	})
	set.Flags().StringSliceVar(&grants, "grant", nil, "key:ID=read, oidc:SUBJECT=send, key:ID=manage")
	set.Flags().BoolVar(&everybody, "everybody", false, "empty the list: every key of the tenant with the scopes may do everything")
	return group("access", "Which keys and persons may read, send and manage", c.atMailbox("get MAILBOX", "Show it", args("MAILBOX"),
		func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, _ []string) error {
			p, err := api.GetMailboxAccess(ctx, &pecv1.GetMailboxAccessRequest{Name: mailbox})
			if err != nil {
				return err
			}
			return show(p)
		}), set)
}

func (c *cli) pecLog() *cobra.Command {
	f := &pecv1.LogFilter{}
	var since, until, output string
	var export, signed bool
	cmd := c.lister(verb("log MAILBOX", "What happened to messages: received, handed over, each certified receipt", args("MAILBOX"), func(ctx context.Context, given []string) error {
		parent, err := c.pecParent(ctx, given[0])
		if err != nil {
			return err
		}
		if f.StartTime, err = parseTime("since", since); err != nil {
			return err
		}
		if f.EndTime, err = parseTime("until", until); err != nil {
			return err
		}
		api, err := c.pecDesk()
		if err != nil {
			return err
		}
		if export || signed {
			stream, err := api.ExportLog(ctx, &pecv1.ExportLogRequest{Parent: parent, Filter: f, Signed: signed})
			if err != nil {
				return err
			}
			return c.download(output, func() ([]byte, error) {
				r, err := stream.Recv()
				return r.GetData(), err
			})
		}
		page, err := collect(c, func(token string, size int32) (*pecv1.ListLogEntriesResponse, error) {
			return api.ListLogEntries(ctx, &pecv1.ListLogEntriesRequest{Parent: parent, Filter: f, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, e := range page.GetEntries() {
				rows = append(rows, []string{fmt.Sprint(e.GetNumber()), when(e.GetTime()), e.GetEvent(), e.GetType(), e.GetProof(), e.GetSender(), strings.Join(e.GetRecipients(), " "), e.GetSubject(), e.GetMessageId(), e.GetProviderId()})
			}
			c.table([]string{"NUMBER", "TIME", "EVENT", "TYPE", "PROOF", "SENDER", "RECIPIENTS", "SUBJECT", "MESSAGE-ID", "PROVIDER'S ID"}, rows)
		})
	}))
	fs := cmd.Flags()
	fs.StringVar(&f.Identifier, "id", "", "Message-ID, or the provider's identificativo")
	fs.StringVar(&f.Address, "address", "", "of the sender or of a recipient")
	fs.StringVar(&f.Event, "event", "", "received, queued, submitted, accepted, delivered, not-delivered, ...")
	fs.StringVar(&f.Type, "type", "", "accettazione, avvenuta-consegna, posta-certificata, ...")
	fs.StringVar(&f.Subject, "subject", "", "part of the subject")
	fs.StringVar(&since, "since", "", "from then on, as 2026-01-31 or 2026-01-31T10:00:00Z")
	fs.StringVar(&until, "until", "", "before then")
	fs.BoolVar(&export, "csv", false, "all of it as CSV, oldest first")
	fs.BoolVar(&signed, "signed", false, "a ZIP with the CSV and a manifest of it that the platform signed; VERIFY.txt inside says how to verify it")
	fs.StringVarP(&output, "file", "f", "", "file to write with --csv and --signed; standard output when empty")
	return cmd
}

// pecParent is a mailbox, or with - all of the tenant.
func (c *cli) pecParent(ctx context.Context, given string) (string, error) {
	if given != "-" {
		return c.pecMailbox(ctx, given)
	}
	tenant, err := c.tenantName()
	return tenant + "/mailboxes/-", err
}

func (c *cli) pecPreserve() *cobra.Command {
	return c.atMailbox("preserve MAILBOX MESSAGE...", "Hand chosen messages over to preservation", some("MESSAGE"), func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, given []string) error {
		got, err := api.PreserveMessages(ctx, &pecv1.PreserveMessagesRequest{Parent: mailbox, Messages: ofMailbox(mailbox, given)})
		if err != nil {
			return err
		}
		return c.print(got, func() { c.fields("handed over", got.GetHandedOver()) })
	})
}

func (c *cli) pecDays() *cobra.Command {
	return c.lister(c.atMailbox("days MAILBOX", "The days of a mailbox that were handed over to preservation, and how far it is with each", args("MAILBOX"),
		func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, _ []string) error {
			page, err := collect(c, func(token string, size int32) (*pecv1.ListPreservedDaysResponse, error) {
				return api.ListPreservedDays(ctx, &pecv1.ListPreservedDaysRequest{Parent: mailbox, PageToken: token, PageSize: size})
			})
			if err != nil {
				return err
			}
			return c.print(page, func() {
				var rows [][]string
				for _, d := range page.GetDays() {
					rows = append(rows, []string{d.GetDay(), fmt.Sprint(d.GetMessages()), fmt.Sprint(d.GetInCustody()), fmt.Sprint(d.GetSealed()), map[bool]string{true: "complete", false: "-"}[d.GetComplete()], d.GetRegisterSha256()})
				}
				c.table([]string{"DAY", "MESSAGES", "IN CUSTODY", "SEALED", "COMPLETE", "REGISTER"}, rows)
			})
		}))
}

// conserveMailDays is the archive's own account of the days of mailboxes.
func (c *cli) conserveMailDays() *cobra.Command {
	var mailbox string
	var incomplete bool
	cmd := c.lister(verb("mail-days", "Days of certified mailboxes, with what of each is in custody", args(), func(ctx context.Context, _ []string) error {
		tenant, err := c.tenantName()
		if err != nil {
			return err
		}
		if mailbox != "" {
			mailbox, err = c.pecMailbox(ctx, mailbox)
			if err != nil {
				return err
			}
		}
		conn, err := c.dial()
		if err != nil {
			return err
		}
		api := conservationv1.NewMailServiceClient(conn)
		page, err := collect(c, func(token string, size int32) (*conservationv1.ListMailDaysResponse, error) {
			return api.ListMailDays(ctx, &conservationv1.ListMailDaysRequest{Parent: tenant, Mailbox: mailbox, Incomplete: incomplete, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		err = c.print(page, func() {
			var rows [][]string
			for _, d := range page.GetDays() {
				rows = append(rows, []string{d.GetDay(), last(d.GetMailbox()), fmt.Sprint(d.GetMessages()), fmt.Sprint(d.GetInCustody()), map[bool]string{true: "complete", false: "MISSING"}[d.GetComplete()], d.GetRegisterSha256()})
			}
			c.table([]string{"DAY", "MAILBOX", "MESSAGES", "IN CUSTODY", "STATE", "REGISTER"}, rows)
		})
		if err == nil && incomplete && len(page.GetDays()) > 0 {
			err = refused("something of these days is not in custody: look among the parked events of conservation (ceralacca parked ls)")
		}
		return err
	}))
	cmd.Flags().StringVar(&mailbox, "mailbox", "", "only of this mailbox")
	cmd.Flags().BoolVar(&incomplete, "incomplete", false, "only days of which something is missing; exit code 1 when there are")
	return cmd
}
