package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/fault"
)

func (c *cli) pecCommand() *cobra.Command {
	return group("pec", "Certified mail (PEC): mailboxes, messages, whom to trust", c.pecMailboxCommand(), c.pecMessageCommand(), c.pecTrustCommand(),
		c.pecSend(), c.pecDraftCommand(), c.pecStatus(), c.pecQueue(), c.pecCancel(), c.pecResolve(), c.pecHub(), c.pecProviders(), c.pecFolderCommand(),
		c.pecPolicyCommand(), c.pecAccessCommand(), c.pecLog(), c.pecPreserve(), c.pecDays(), c.pecArchive(), c.pecDamaged(), c.pecStrike(), c.pecVouchCommand())
}

func (c *cli) pec() (pecv1.PecServiceClient, error) {
	conn, err := c.dial()
	return pecv1.NewPecServiceClient(conn), err
}

// pecMailbox completes the name of a mailbox: its id or its address will do.
func (c *cli) pecMailbox(ctx context.Context, given string) (string, error) {
	if !strings.Contains(given, "@") || strings.Contains(given, "/") {
		return c.within("mailboxes", given)
	}
	tenant, err := c.tenantName()
	if err != nil {
		return "", err
	}
	api, err := c.pec()
	if err != nil {
		return "", err
	}
	for token := ""; ; {
		list, err := api.ListMailboxes(ctx, &pecv1.ListMailboxesRequest{Parent: tenant, PageSize: 1000, PageToken: token})
		if err != nil {
			return "", err
		}
		for _, m := range list.GetMailboxes() {
			if strings.EqualFold(m.GetAddress(), given) {
				return m.GetName(), nil
			}
		}
		token = list.GetNextPageToken()
		if token == "" {
			return "", fault.NotFound("MAILBOX_NOT_FOUND", "%s has no mailbox %s that this key may see: ceralacca pec mailbox ls lists them", tenant, given)
		}
	}
}

// mailboxFlags are those that describe a mailbox.
type mailboxFlags struct {
	m                            pecv1.Mailbox
	servers                      pecv1.MailboxServers
	access, ordinary, folder, in string
	capacity                     int64
}

func (f *mailboxFlags) on(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.m.Username, "username", "", "name to log in with; the address when empty")
	fs.StringVar(&f.servers.Imap, "imap", "", "server for reading, host:port; that of the provider when empty")
	fs.StringVar(&f.servers.Pop3, "pop3", "", "server for reading without IMAP, host:port")
	fs.StringVar(&f.servers.Smtp, "smtp", "", "server for sending, host:port")
	fs.StringVar(&f.access, "access", "", "imap or pop3")
	fs.StringVar(&f.m.Label, "label", "", "only keys with the scope mailbox.LABEL see it")
	fs.StringVar(&f.m.HomeProvider, "home-provider", "", "provider in the trust list whose acceptances count; the one of the domain when empty")
	fs.StringVar(&f.ordinary, "ordinary", "", "mail that is not certified: accept, move or reject")
	fs.StringVar(&f.folder, "ordinary-folder", "", "folder of move")
	fs.Int64Var(&f.capacity, "capacity", 0, "MiB that the contract gives, for warnings over POP3, whose servers do not say; 0: not known")
}

func (f *mailboxFlags) passwordOn(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.in, "password-file", "", "file with the password; asked for, or a line of standard input, when empty")
	cmd.Long = cmd.Short + ".\n\nThe password goes to Vault and nowhere else. It is asked for on the terminal, or is a line of standard input, or comes from a file."
}

func (f *mailboxFlags) mailbox() (*pecv1.Mailbox, error) {
	access, err := enumOf("access", "MAILBOX_ACCESS_", f.access, pecv1.MailboxAccess_value)
	if err != nil {
		return nil, err
	}
	action, err := enumOf("ordinary", "ORDINARY_ACTION_", f.ordinary, pecv1.OrdinaryAction_value)
	if err != nil {
		return nil, err
	}
	return &pecv1.Mailbox{
		Address: f.m.Address, Provider: f.m.Provider, Username: f.m.Username, Servers: &f.servers, Access: pecv1.MailboxAccess(access), Label: f.m.Label,
		HomeProvider: f.m.HomeProvider, OrdinaryRule: &pecv1.OrdinaryRule{Action: pecv1.OrdinaryAction(action), Folder: f.folder}, Capacity: f.capacity << 20,
	}, nil
}

func (c *cli) readPassword(ctx context.Context, f *mailboxFlags) (string, error) {
	return (&secrets{c: c}).read(ctx, "Password of the mailbox", "--password-file", f.in)
}

func (c *cli) pecMailboxCommand() *cobra.Command {
	return group("mailbox", "Mailboxes in the platform's keeping", c.pecAdd(), c.pecTest(), c.pecMailboxes(),
		c.pecMailboxVerb("get MAILBOX", "Show one mailbox", func(ctx context.Context, api pecv1.PecServiceClient, name string) (*pecv1.Mailbox, error) {
			return api.GetMailbox(ctx, &pecv1.GetMailboxRequest{Name: name})
		}),
		c.pecMailboxVerb("suspend MAILBOX", "Put a mailbox to rest: nothing is received or sent", func(ctx context.Context, api pecv1.PecServiceClient, name string) (*pecv1.Mailbox, error) {
			return api.SuspendMailbox(ctx, &pecv1.SuspendMailboxRequest{Name: name})
		}),
		c.pecMailboxVerb("resume MAILBOX", "Have a mailbox read again, at once", func(ctx context.Context, api pecv1.PecServiceClient, name string) (*pecv1.Mailbox, error) {
			return api.ResumeMailbox(ctx, &pecv1.ResumeMailboxRequest{Name: name})
		}),
		c.pecUpdate(), c.pecPassword(), c.pecQuarantine())
}

func (c *cli) pecAdd() *cobra.Command {
	f := &mailboxFlags{}
	var untested bool
	cmd := verb("add ADDRESS", "Take a mailbox into keeping", args("ADDRESS"), func(ctx context.Context, given []string) error {
		f.m.Address = given[0]
		if f.m.Provider == "" {
			return usage("--provider is missing: ceralacca pec providers lists them; any other is generic, with --imap and --smtp")
		}
		tenant, err := c.tenantName()
		if err != nil {
			return err
		}
		m, err := f.mailbox()
		if err != nil {
			return err
		}
		password, err := c.readPassword(ctx, f)
		if err != nil {
			return err
		}
		api, err := c.pec()
		if err != nil {
			return err
		}
		made, err := api.CreateMailbox(ctx, &pecv1.CreateMailboxRequest{Parent: tenant, Mailbox: m, Password: password, Untested: untested, RequestId: uuid.NewString()})
		if err != nil {
			return err
		}
		return c.print(made, func() { c.showMailbox(made) })
	})
	f.on(cmd)
	f.passwordOn(cmd)
	cmd.Flags().StringVar(&f.m.Provider, "provider", "", "aruba, legalmail, namirial, register, generic (with --imap and --smtp) or, in development, sandbox")
	cmd.Flags().BoolVar(&untested, "untested", false, "also when it cannot be opened now")
	return cmd
}

func (c *cli) pecTest() *cobra.Command {
	f := &mailboxFlags{}
	var cmd *cobra.Command
	cmd = verb("test MAILBOX", "Try the servers of a mailbox step by step", args("MAILBOX"), func(ctx context.Context, given []string) error {
		api, err := c.pec()
		if err != nil {
			return err
		}
		req := &pecv1.TestMailboxRequest{}
		if f.m.Provider == "" {
			for _, flag := range []string{"username", "imap", "pop3", "smtp", "access"} {
				if cmd.Flags().Changed(flag) {
					return usage("--%s is of an address that is not in keeping: give --provider too. A mailbox in keeping is tried as it is; ceralacca pec mailbox set changes it", flag)
				}
			}
			req.Name, err = c.pecMailbox(ctx, given[0])
			if err == nil && f.in != "" {
				req.Password, err = c.readPassword(ctx, f)
			}
		} else {
			f.m.Address = given[0]
			req.Parent, err = c.tenantName()
			if err == nil {
				req.Mailbox, err = f.mailbox()
			}
			if err == nil {
				req.Password, err = c.readPassword(ctx, f)
			}
		}
		if err != nil {
			return err
		}
		got, err := api.TestMailbox(ctx, req)
		if err != nil {
			return err
		}
		err = c.print(got, func() {
			var rows [][]string
			for _, r := range got.GetSteps() {
				rows = append(rows, []string{enum("PROBE_STEP_", r.GetStep()), enum("PROBE_VERDICT_", r.GetVerdict()), r.GetServer(),
					strings.TrimSpace(r.GetCode() + " " + r.GetDetail())})
			}
			c.table([]string{"STEP", "VERDICT", "SERVER", "DETAIL"}, rows)
		})
		if err == nil && !got.GetPassed() {
			err = refused("the mailbox does not work: mend what the step that failed says, and test again")
		}
		return err
	})
	f.on(cmd)
	f.passwordOn(cmd)
	cmd.Flags().StringVar(&f.m.Provider, "provider", "", "try an address that is not in keeping yet, with this preset")
	return cmd
}

func (c *cli) pecMailboxes() *cobra.Command {
	return c.lister(verb("ls", "All mailboxes of the tenant: state, last look, room", args(), func(ctx context.Context, _ []string) error {
		tenant, err := c.tenantName()
		if err != nil {
			return err
		}
		api, err := c.pec()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*pecv1.ListMailboxesResponse, error) {
			return api.ListMailboxes(ctx, &pecv1.ListMailboxesRequest{Parent: tenant, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, m := range page.GetMailboxes() {
				rows = append(rows, []string{m.GetAddress(), enum("MAILBOX_STATE_", m.GetState()), m.GetProvider(), when(m.GetLastPollTime()),
					fmt.Sprint(m.GetCounts().GetMessages()), fmt.Sprint(m.GetCounts().GetQuarantined()), quotaText(m.GetQuota()), m.GetProblemCode()})
			}
			c.table([]string{"MAILBOX", "STATE", "PROVIDER", "LAST LOOK", "MESSAGES", "QUARANTINED", "ROOM", "PROBLEM"}, rows)
		})
	}))
}

func quotaText(q *pecv1.MailboxQuota) string {
	switch {
	case q.GetLimit() == 0 && q.GetComputed():
		return fmt.Sprintf("unknown (%d MiB used, computed)", q.GetUsed()>>20)
	case q.GetLimit() == 0:
		return "unknown"
	}
	text := fmt.Sprintf("%d%% %s", q.GetUsed()*100/q.GetLimit(), strings.ToLower(enum("QUOTA_LEVEL_", q.GetLevel())))
	if q.GetComputed() {
		text += " (computed)"
	}
	return text
}

func (c *cli) showMailbox(m *pecv1.Mailbox) {
	s := m.GetSync()
	sync := fmt.Sprintf("%d of %d messages", s.GetFetched(), s.GetTotal())
	if s.GetDone() {
		sync = "done " + when(s.GetEndTime())
	}
	c.fields("name", m.GetName(), "address", m.GetAddress(), "provider", m.GetProvider(), "state", enum("MAILBOX_STATE_", m.GetState()),
		"problem", strings.TrimSpace(m.GetProblemCode()+" "+m.GetProblem()), "label", m.GetLabel(), "first reading", sync, "compared with the provider", when(s.GetWholeTime()), "last look", when(m.GetLastPollTime()),
		"last message", when(m.GetLastReceiveTime()), "room", quotaText(m.GetQuota()), "messages", m.GetCounts().GetMessages(),
		"quarantined", m.GetCounts().GetQuarantined(), "unproven", m.GetCounts().GetUnproven(),
		"gone before they were fetched", strings.TrimSpace(fmt.Sprint(m.GetCounts().GetGone(), " ", when(m.GetCounts().GetGoneTime()))),
		"not certified", strings.ToLower(enum("ORDINARY_ACTION_", m.GetOrdinaryRule().GetAction()))+" "+m.GetOrdinaryRule().GetFolder())
}

func (c *cli) pecMailboxVerb(use, short string, call func(ctx context.Context, api pecv1.PecServiceClient, name string) (*pecv1.Mailbox, error)) *cobra.Command {
	return verb(use, short, args("MAILBOX"), func(ctx context.Context, given []string) error {
		name, err := c.pecMailbox(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.pec()
		if err != nil {
			return err
		}
		m, err := call(ctx, api, name)
		if err != nil {
			return err
		}
		return c.print(m, func() { c.showMailbox(m) })
	})
}

func (c *cli) pecUpdate() *cobra.Command {
	f := &mailboxFlags{}
	var cmd *cobra.Command
	cmd = c.pecMailboxVerb("set MAILBOX", "Change what the flags name", func(ctx context.Context, api pecv1.PecServiceClient, name string) (*pecv1.Mailbox, error) {
		mask := &fieldmaskpb.FieldMask{}
		for _, p := range []struct{ flag, path string }{
			{"username", "username"}, {"imap", "servers.imap"}, {"pop3", "servers.pop3"}, {"smtp", "servers.smtp"}, {"access", "access"}, {"label", "label"},
			{"home-provider", "home_provider"}, {"ordinary", "ordinary_rule"}, {"ordinary-folder", "ordinary_rule"}, {"capacity", "capacity"},
		} {
			if cmd.Flags().Changed(p.flag) && !slices.Contains(mask.Paths, p.path) {
				mask.Paths = append(mask.Paths, p.path)
			}
		}
		if len(mask.Paths) == 0 {
			return nil, usage("name what is to change; see ceralacca pec mailbox set --help")
		}
		if cmd.Flags().Changed("ordinary-folder") && !cmd.Flags().Changed("ordinary") {
			f.ordinary = "move"
		}
		m, err := f.mailbox()
		if err != nil {
			return nil, err
		}
		m.Name = name
		return api.UpdateMailbox(ctx, &pecv1.UpdateMailboxRequest{Mailbox: m, UpdateMask: mask})
	})
	f.on(cmd)
	return cmd
}

func (c *cli) pecPassword() *cobra.Command {
	f := &mailboxFlags{}
	var untested bool
	cmd := c.pecMailboxVerb("password MAILBOX", "Give a mailbox its new password", func(ctx context.Context, api pecv1.PecServiceClient, name string) (*pecv1.Mailbox, error) {
		password, err := c.readPassword(ctx, f)
		if err != nil {
			return nil, err
		}
		return api.ChangeMailboxPassword(ctx, &pecv1.ChangeMailboxPasswordRequest{Name: name, Password: password, Untested: untested})
	})
	f.passwordOn(cmd)
	cmd.Flags().BoolVar(&untested, "untested", false, "also when the mailbox cannot be opened with it now")
	return cmd
}

func (c *cli) pecQuarantine() *cobra.Command {
	return c.lister(verb("quarantine MAILBOX", "What could not be read or is kept away by a rule", args("MAILBOX"), func(ctx context.Context, given []string) error {
		name, err := c.pecMailbox(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.pec()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*pecv1.ListQuarantinedMessagesResponse, error) {
			return api.ListQuarantinedMessages(ctx, &pecv1.ListQuarantinedMessagesRequest{Parent: name, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, m := range page.GetMessages() {
				rows = append(rows, []string{m.GetName(), m.GetCode(), when(m.GetReceiveTime()), fmt.Sprint(m.GetContent().GetSize()), m.GetReason()})
			}
			c.table([]string{"MESSAGE", "CODE", "RECEIVED", "BYTES", "REASON"}, rows)
		})
	}))
}
