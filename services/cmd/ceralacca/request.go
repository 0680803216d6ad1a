package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
)

func (c *cli) requests() (signv1.SignatureRequestServiceClient, error) {
	conn, err := c.dial()
	return signv1.NewSignatureRequestServiceClient(conn), err
}

func (c *cli) requestCommand() *cobra.Command {
	return group("request", "Signature requests: documents that several persons approve and sign",
		c.requestCreate(), c.requestList(), c.requestShow(), c.requestView(), c.requestApprove(), c.requestSign(), c.requestRefuse(), c.requestWithdraw(),
		c.requestDelegate(), c.requestReassign(), c.requestRemind(), c.requestLink(), c.requestWatch(), c.requestBundle())
}

const whoHelp = `WHO is a user's id (u-17), an address (anna@example.com), both (u-17=anna@example.com), or of a signer the name of
a credential.`

// participantOf reads role:who of --step.
func (c *cli) participantOf(text string, link bool) (*signv1.RequestParticipant, error) {
	role, person, ok := strings.Cut(text, ":")
	p := &signv1.RequestParticipant{}
	switch {
	case ok && role == "sign":
		p.Role = signv1.ParticipantRole_PARTICIPANT_ROLE_SIGNER
	case ok && role == "approve":
		p.Role = signv1.ParticipantRole_PARTICIPANT_ROLE_APPROVER
	default:
		return nil, usage("--step: %q is neither sign:WHO nor approve:WHO", text)
	}
	if err := c.identify(p, person); err != nil {
		return nil, err
	}
	p.RequireLink = link && p.GetRole() == signv1.ParticipantRole_PARTICIPANT_ROLE_APPROVER
	return p, nil
}

// identify says who a participant is.
func (c *cli) identify(p *signv1.RequestParticipant, person string) error {
	first, email, _ := strings.Cut(person, "=")
	p.Email = email
	switch {
	case strings.Contains(first, "/credentials/"):
		p.Credential = first
	case strings.Contains(first, "@"):
		p.Email = first
	default:
		holder, err := c.within("users", first)
		if err != nil {
			return err
		}
		p.Holder = holder
	}
	return nil
}

// stepOf reads [N/]role:who,role:who of --step.
func (c *cli) stepOf(text string, link bool) (*signv1.RequestStep, error) {
	step := &signv1.RequestStep{}
	if head, rest, ok := strings.Cut(text, "/"); ok {
		if n, err := strconv.ParseInt(head, 10, 32); err == nil {
			step.Required, text = int32(n), rest
		}
	}
	for _, one := range strings.Split(text, ",") {
		p, err := c.participantOf(strings.TrimSpace(one), link)
		if err != nil {
			return nil, err
		}
		step.Participants = append(step.Participants, p)
	}
	return step, nil
}

func (c *cli) requestCreate() *cobra.Command {
	var title, deadline, as, seal, requestID string
	var steps []string
	var remind time.Duration
	var stamp, link bool
	cmd := verb("create FILE...", "Ask for approvals and signatures of files", args("FILE..."), func(ctx context.Context, given []string) error {
		if err := need("title", title, "deadline", deadline); err != nil {
			return err
		}
		if len(steps) == 0 {
			return usage("--step is missing: such as --step sign:u-17")
		}
		form, ok := forms[as]
		if !ok || as == "p7s" {
			return usage("--as is p7m, add, xml or pdf, not %q", as)
		}
		parent, err := c.tenantName()
		if err != nil {
			return err
		}
		r := &signv1.SignatureRequest{Title: title, Timestamp: stamp, SealMandate: seal}
		if r.Deadline, err = parseTime("deadline", deadline); err != nil {
			return err
		}
		if remind > 0 {
			r.RemindInterval = durationpb.New(remind)
		}
		for _, text := range steps {
			step, err := c.stepOf(text, link)
			if err != nil {
				return err
			}
			r.Steps = append(r.Steps, step)
		}
		total := 0
		for _, name := range given {
			raw, err := os.ReadFile(name)
			if err != nil {
				return usage("%v", err)
			}
			if total += len(raw); total > mostUploaded {
				return usage("the files have more than %d bytes together: send fewer in one request", mostUploaded)
			}
			r.Documents = append(r.Documents, &signv1.RequestDocument{DisplayName: filepath.Base(name), Form: form,
				Source: &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Content{Content: raw}}})
		}
		api, err := c.requests()
		if err != nil {
			return err
		}
		if requestID == "" {
			requestID = uuid.NewString()
		}
		req := &signv1.CreateSignatureRequestRequest{Parent: parent, SignatureRequest: r, RequestId: requestID}
		made, err := tryAgain(ctx, c, func() (*signv1.SignatureRequest, error) { return api.CreateSignatureRequest(ctx, req) })
		if err != nil {
			return err
		}
		return c.print(made, func() { c.showRequest(made) })
	})
	cmd.Long = cmd.Short + `.

Each --step is who acts at the same time: sign:WHO and approve:WHO with commas between, N/ before them when N of them
are enough. Steps come one after the other. ` + whoHelp + `

  ceralacca request create lease.pdf --as pdf --title Lease --deadline 2027-01-31 \
      --step 1/approve:anna@example.com,approve:u-4 --step sign:u-17=maria@example.com --step sign:u-18`
	f := cmd.Flags()
	f.StringVar(&title, "title", "", "for those who see the request; it is in no mail")
	f.StringVar(&deadline, "deadline", "", "date or time after which it expires")
	f.StringArrayVar(&steps, "step", nil, "[N/]approve:WHO,sign:WHO,...; repeated in order")
	f.StringVar(&as, "as", "p7m", "p7m, add (the files are p7m already), xml or pdf")
	f.BoolVar(&stamp, "timestamp", false, "a time stamp on each signature")
	f.StringVar(&seal, "seal", os.Getenv("CERALACCA_MANDATE"), "mandate under which the audit trail is sealed (CERALACCA_MANDATE)")
	f.DurationVar(&remind, "remind", 0, "how often those whose turn it is are reminded, 1h at least")
	f.BoolVar(&link, "require-link", false, "approvals need the code that is mailed to the approver")
	f.StringVar(&requestID, "request-id", "", "UUID of the call: repeated, it makes no second request")
	return cmd
}

// showRequest shows a request with its people and documents.
func (c *cli) showRequest(r *signv1.SignatureRequest) {
	c.fields("name", r.GetName(), "title", printable(r.GetTitle()), "state", enum("REQUEST_STATE_", r.GetState()), "reason", printable(r.GetCloseReason()),
		"step", fmt.Sprintf("%d of %d", r.GetCurrentStep(), len(r.GetSteps())), "deadline", when(r.GetDeadline()), "requester", r.GetRequester(),
		"created", when(r.GetCreateTime()), "closed", when(r.GetCloseTime()), "events", r.GetSequence(), "bundle", when(r.GetBundleTime()), "missing in it", r.GetBundleNote())
	var rows [][]string
	for i, step := range r.GetSteps() {
		for _, p := range step.GetParticipants() {
			who := p.GetHolder()
			for _, other := range []string{p.GetCredential(), p.GetEmail()} {
				if who == "" {
					who = other
				}
			}
			rows = append(rows, []string{fmt.Sprintf("%d (%d of %d)", i+1, step.GetRequired(), len(step.GetParticipants())), strings.ToLower(enum("PARTICIPANT_ROLE_", p.GetRole())),
				enum("PARTICIPANT_STATE_", p.GetState()), who, when(p.GetActTime()), p.GetName()})
		}
	}
	c.table([]string{"STEP", "ROLE", "STATE", "WHO", "ACTED", "PARTICIPANT"}, rows)
	rows = nil
	for _, d := range r.GetDocuments() {
		rows = append(rows, []string{fmt.Sprint(d.GetPosition()), printable(d.GetDisplayName()), enum("SIGNATURE_FORM_", d.GetForm()), fmt.Sprintf("%x", d.GetOriginal().GetSha256()), yes(d.GetSigned() != nil)})
	}
	c.table([]string{"DOCUMENT", "NAME", "FORM", "SHA-256", "SIGNED"}, rows)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (c *cli) requestList() *cobra.Command {
	var state, person string
	var waiting bool
	cmd := c.lister(verb("ls", "List signature requests, newest first", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.tenantName()
		if err != nil {
			return err
		}
		value, err := enumOf("state", "REQUEST_STATE_", state, signv1.RequestState_value)
		if err != nil {
			return err
		}
		if person != "" && !strings.Contains(person, "@") {
			if person, err = c.within("users", person); err != nil {
				return err
			}
		}
		api, err := c.requests()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*signv1.ListSignatureRequestsResponse, error) {
			return api.ListSignatureRequests(ctx, &signv1.ListSignatureRequestsRequest{
				Parent: parent, State: signv1.RequestState(value), Person: person, Waiting: waiting, PageToken: token, PageSize: size,
			})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, r := range page.GetSignatureRequests() {
				rows = append(rows, []string{last(r.GetName()), enum("REQUEST_STATE_", r.GetState()), fmt.Sprintf("%d/%d", r.GetCurrentStep(), len(r.GetSteps())), when(r.GetDeadline()), printable(r.GetTitle())})
			}
			c.table([]string{"REQUEST", "STATE", "STEP", "DEADLINE", "TITLE"}, rows)
		})
	}))
	cmd.Flags().StringVar(&state, "state", "", "only open, completed, refused, withdrawn or expired")
	cmd.Flags().StringVar(&person, "person", "", "only those of a user or an address, also as a delegate")
	cmd.Flags().BoolVar(&waiting, "waiting", false, "only those that wait for --person now")
	return cmd
}

// participantName completes REQUEST/PARTICIPANT.
func (c *cli) participantName(given string) (string, error) {
	request, participant, ok := strings.Cut(given, "/")
	if !ok || strings.Contains(participant, "/") {
		return given, nil // a whole name, or one that the server refuses
	}
	name, err := c.within("signatureRequests", request)
	return name + "/participants/" + participant, err
}

// requestVerb makes a command that does one thing to a request, or to a participant of one.
func (c *cli) requestVerb(use, short string, act func(ctx context.Context, api signv1.SignatureRequestServiceClient, name, requestID string) (*signv1.SignatureRequest, error)) *cobra.Command {
	_, what, _ := strings.Cut(use, " ")
	return verb(use, short, args(what), func(ctx context.Context, given []string) error {
		complete := c.participantName
		if what == "REQUEST" {
			complete = func(name string) (string, error) { return c.within("signatureRequests", name) }
		}
		name, err := complete(given[0])
		if err != nil {
			return err
		}
		api, err := c.requests()
		if err != nil {
			return err
		}
		id := uuid.NewString()
		done, err := tryAgain(ctx, c, func() (*signv1.SignatureRequest, error) { return act(ctx, api, name, id) })
		if err != nil {
			return err
		}
		return c.print(done, func() { c.showRequest(done) })
	})
}

func (c *cli) requestShow() *cobra.Command {
	return c.requestVerb("show REQUEST", "Show a request: documents, people, state", func(ctx context.Context, api signv1.SignatureRequestServiceClient, name, _ string) (*signv1.SignatureRequest, error) {
		return api.GetSignatureRequest(ctx, &signv1.GetSignatureRequestRequest{Name: name})
	})
}

func (c *cli) requestRefuse() *cobra.Command {
	var reason string
	cmd := c.requestVerb("refuse PARTICIPANT", "Refuse, with a reason", func(ctx context.Context, api signv1.SignatureRequestServiceClient, name, id string) (*signv1.SignatureRequest, error) {
		if err := need("reason", reason); err != nil {
			return nil, err
		}
		return api.RefuseSignatureRequest(ctx, &signv1.RefuseSignatureRequestRequest{Participant: name, Reason: reason, RequestId: id})
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is in the audit trail")
	return cmd
}

func (c *cli) requestWithdraw() *cobra.Command {
	var reason string
	cmd := c.requestVerb("withdraw REQUEST", "Take a request back", func(ctx context.Context, api signv1.SignatureRequestServiceClient, name, id string) (*signv1.SignatureRequest, error) {
		return api.WithdrawSignatureRequest(ctx, &signv1.WithdrawSignatureRequestRequest{Name: name, Reason: reason, RequestId: id})
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is in the audit trail")
	return cmd
}

func (c *cli) requestDelegate() *cobra.Command {
	var to, until string
	var approve, end bool
	cmd := c.requestVerb("delegate PARTICIPANT", "Let somebody else view, and approve if that is said, in the place of a participant; never sign", func(ctx context.Context, api signv1.SignatureRequestServiceClient, name, id string) (*signv1.SignatureRequest, error) {
		req := &signv1.DelegateSignatureRequestRequest{Participant: name, RequestId: id}
		if !end {
			if err := need("to", to); err != nil {
				return nil, err
			}
			var p signv1.RequestParticipant
			if err := c.identify(&p, to); err != nil {
				return nil, err
			}
			req.Delegate = &signv1.RequestDelegate{Holder: p.GetHolder(), Email: p.GetEmail(), MayApprove: approve}
			var err error
			if req.Delegate.ExpireTime, err = parseTime("until", until); err != nil {
				return nil, err
			}
		}
		return api.DelegateSignatureRequest(ctx, req)
	})
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "a user's id, an address, or both: u-9=ugo@example.com")
	f.BoolVar(&approve, "may-approve", false, "the delegate of an approver may approve")
	f.StringVar(&until, "until", "", "date or time; that of the request when empty")
	f.BoolVar(&end, "end", false, "end the delegation")
	return cmd
}

func (c *cli) requestReassign() *cobra.Command {
	var to string
	var link bool
	cmd := c.requestVerb("reassign PARTICIPANT", "Put another person in the place of one who has not acted", func(ctx context.Context, api signv1.SignatureRequestServiceClient, name, id string) (*signv1.SignatureRequest, error) {
		if err := need("to", to); err != nil {
			return nil, err
		}
		p, err := c.participantOf(to, link)
		if err != nil {
			return nil, err
		}
		return api.ReassignSignatureRequest(ctx, &signv1.ReassignSignatureRequestRequest{Participant: name, Successor: p, RequestId: id})
	})
	cmd.Flags().StringVar(&to, "to", "", "sign:WHO or approve:WHO, in the same role")
	cmd.Flags().BoolVar(&link, "require-link", false, "the approval needs the code that is mailed")
	cmd.Long = cmd.Short + ".\n\n" + whoHelp
	return cmd
}

func (c *cli) requestRemind() *cobra.Command {
	return c.requestVerb("remind REQUEST", "Remind those whose turn it is, by e-mail", func(ctx context.Context, api signv1.SignatureRequestServiceClient, name, _ string) (*signv1.SignatureRequest, error) {
		return api.RemindSignatureRequest(ctx, &signv1.RemindSignatureRequestRequest{Name: name})
	})
}
