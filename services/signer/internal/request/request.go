// Package request owns how a signature request goes from one state to the next: who may act, in which
// order, on which documents, and when it is over. It is a pure function of the request and the act.
//
// It refuses to know where a request is kept, who proved what, and what time it is: that comes with the act.
package request

import (
	"slices"
	"time"
)

// State of a request. All but Open are final.
type State string

// States.
const (
	Open      State = "OPEN"
	Completed State = "COMPLETED"
	Refused   State = "REFUSED"
	Withdrawn State = "WITHDRAWN"
	Expired   State = "EXPIRED"
)

// Role is what a participant is there for.
type Role string

// Roles.
const (
	Signer   Role = "SIGNER"
	Approver Role = "APPROVER"
)

// Standing is how a participant stands to the request.
type Standing string

// Standings. Waiting and Asked are before the act, the others are final.
const (
	Waiting   Standing = "WAITING" // the step has not begun
	Asked     Standing = "ASKED"   // it is their turn
	Done      Standing = "DONE"
	Declined  Standing = "REFUSED"
	NotNeeded Standing = "NOT_NEEDED" // enough others acted, or the request is closed
	Replaced  Standing = "REPLACED"   // a successor has the place
)

// Verb is what an act does.
type Verb string

// Verbs.
const (
	View     Verb = "VIEW"
	Approve  Verb = "APPROVE"
	Sign     Verb = "SIGN"
	Refuse   Verb = "REFUSE"
	Delegate Verb = "DELEGATE"
	Reassign Verb = "REASSIGN"
	Remind   Verb = "REMIND"
	Withdraw Verb = "WITHDRAW"
	Expire   Verb = "EXPIRE"
)

// Verbs lists them all.
func Verbs() []Verb {
	return []Verb{View, Approve, Sign, Refuse, Delegate, Reassign, Remind, Withdraw, Expire}
}

// Person is a participant.
type Person struct {
	ID       string
	Role     Role
	Step     int // from 0
	Standing Standing
	// Seen and SeenByDelegate are what was viewed last, as in Request.Documents; empty: nothing.
	Seen, SeenByDelegate string
	// Deputy is there while somebody else may view, until DeputyUntil, and approve when DeputyApproves.
	Deputy, DeputyApproves bool
	DeputyUntil            time.Time
}

// Request is all of a request that decides what may happen next.
type Request struct {
	State    State
	Step     int   // from 0; the one that is asked now
	Needs    []int // how many have to act, by step
	Deadline time.Time
	// Documents stands for the documents as they are before a participant now: a digest. It changes when
	// a signature changes what the next one signs.
	Documents string
	People    []Person
}

// Act is something that somebody wants to do.
type Act struct {
	Verb   Verb
	Person string // id of the participant; empty for Remind, Withdraw, Expire
	// ByDeputy: the delegate acts in the participant's place.
	ByDeputy bool
	// Seen is what Approve and Sign are about.
	Seen string
	// After is what Documents is after Sign.
	After string
	// Deputy, Approves and Until are the delegation of Delegate; without Deputy it ends.
	Deputy, Approves bool
	Until            time.Time
	// Successor is the id of who takes the place (Reassign).
	Successor string
	At        time.Time
}

// Refusal says why an act may not be. Code is permanent.
type Refusal struct{ Code, Text string }

func (r *Refusal) Error() string { return r.Code + ": " + r.Text }

// Codes of refusals.
const (
	CodeClosed       = "REQUEST_CLOSED"
	CodeExpired      = "REQUEST_EXPIRED"
	CodeNotExpired   = "REQUEST_NOT_EXPIRED"
	CodeNobody       = "PARTICIPANT_NOT_FOUND"
	CodeNotYourTurn  = "NOT_YOUR_TURN"
	CodeActed        = "PARTICIPANT_ACTED"
	CodeRole         = "WRONG_ROLE"
	CodeNotViewed    = "NOT_VIEWED"
	CodeChanged      = "DOCUMENT_CHANGED"
	CodeNoDelegate   = "NO_DELEGATION"
	CodeMayNot       = "DELEGATE_MAY_NOT"
	CodeDelegatePast = "DELEGATION_TIME"
)

func refuse(code, text string) error { return &Refusal{code, text} }

// Outcome is what follows from an act besides the new request.
type Outcome struct {
	Asked  []string // participants whose turn begins now
	Closed bool     // the request is over now
}

// New opens a request: the first step is asked. needs of 0 means all of a step.
func New(people []Person, needs []int, documents string, deadline time.Time) (Request, Outcome) {
	r := Request{State: Open, Step: -1, Needs: slices.Clone(needs), Deadline: deadline, Documents: documents, People: slices.Clone(people)}
	for i, n := range r.Needs {
		if all := len(r.of(i)); n == 0 || n > all {
			r.Needs[i] = all
		}
	}
	for i := range r.People {
		r.People[i].Standing = Waiting
	}
	var o Outcome
	r.begin(0, &o)
	return r, o
}

// Next is the request after the act. r is not changed. The error is a *Refusal: then nothing happens.
func Next(r Request, a Act) (Request, Outcome, error) {
	var o Outcome
	if r.State != Open {
		return r, o, refuse(CodeClosed, "the request is closed: "+string(r.State))
	}
	late := !a.At.Before(r.Deadline)
	if late && a.Verb != Expire {
		return r, o, refuse(CodeExpired, "the deadline has passed: "+r.Deadline.UTC().Format(time.RFC3339))
	}
	r.People = slices.Clone(r.People)
	switch a.Verb {
	case Remind:
		return r, o, nil
	case Withdraw:
		r.close(Withdrawn, &o)
		return r, o, nil
	case Expire:
		if !late {
			return r, o, refuse(CodeNotExpired, "the deadline has not passed")
		}
		r.close(Expired, &o)
		return r, o, nil
	}
	p := r.person(a.Person)
	if p == nil {
		return r, o, refuse(CodeNobody, "there is no such participant")
	}
	if err := may(p, a); err != nil {
		return r, o, err
	}
	switch a.Verb {
	case View:
		if a.ByDeputy {
			p.SeenByDelegate = r.Documents
		} else {
			p.Seen = r.Documents
		}
		return r, o, nil
	case Delegate:
		if a.Deputy && !a.Until.After(a.At) {
			return r, o, refuse(CodeDelegatePast, "the delegation would be over before it begins")
		}
		p.Deputy, p.DeputyApproves, p.DeputyUntil, p.SeenByDelegate = a.Deputy, a.Deputy && a.Approves, a.Until, ""
		return r, o, nil
	case Reassign:
		heir := Person{ID: a.Successor, Role: p.Role, Step: p.Step, Standing: p.Standing}
		p.Standing = Replaced
		if heir.Standing == Asked {
			o.Asked = []string{heir.ID}
		}
		r.People = append(r.People, heir)
		return r, o, nil
	}
	return act(r, p, a)
}

// act is for the verbs by which a participant has acted.
func act(r Request, p *Person, a Act) (Request, Outcome, error) {
	var o Outcome
	if a.Verb == Refuse {
		p.Standing = Declined
		if r.count(r.Step, Asked)+r.count(r.Step, Done) < r.Needs[r.Step] {
			r.close(Refused, &o)
		}
		return r, o, nil
	}
	seen := p.Seen
	if a.ByDeputy {
		seen = p.SeenByDelegate
	}
	switch {
	case seen == "":
		return r, o, refuse(CodeNotViewed, "the documents were not viewed: view them first")
	case seen != r.Documents || a.Seen != r.Documents:
		return r, o, refuse(CodeChanged, "the documents are not what was viewed: view them again")
	}
	p.Standing = Done
	if a.Verb == Sign {
		r.Documents = a.After
	}
	if r.count(r.Step, Done) >= r.Needs[r.Step] {
		r.release(func(q *Person) bool { return q.Step == r.Step })
		r.begin(r.Step+1, &o)
	}
	return r, o, nil
}

// may says whether the participant, or the delegate, may do this at all.
func may(p *Person, a Act) error {
	before := p.Standing == Waiting || p.Standing == Asked
	switch {
	case !before && a.Verb != View:
		return refuse(CodeActed, "the participant stands as "+string(p.Standing)+": nothing more is to be done")
	case p.Standing == Replaced:
		return refuse(CodeActed, "another has taken the place")
	case !before && a.ByDeputy:
		return refuse(CodeActed, "the participant has acted")
	case p.Standing == Waiting && (a.Verb == Approve || a.Verb == Sign || a.Verb == Refuse):
		return refuse(CodeNotYourTurn, "an earlier step is not over")
	case (a.Verb == Approve && p.Role != Approver) || (a.Verb == Sign && p.Role != Signer):
		return refuse(CodeRole, "the participant is there as "+string(p.Role))
	}
	if !a.ByDeputy {
		return nil
	}
	if !p.Deputy || !a.At.Before(p.DeputyUntil) {
		return refuse(CodeNoDelegate, "nobody stands in for the participant now")
	}
	if a.Verb == View || (a.Verb == Approve && p.DeputyApproves) {
		return nil
	}
	return refuse(CodeMayNot, "the delegation does not cover this; a delegate never signs")
}

// begin asks the people of a step; after the last one the request is completed.
func (r *Request) begin(step int, o *Outcome) {
	if step >= len(r.Needs) {
		r.close(Completed, o)
		return
	}
	r.Step = step
	for i := range r.People {
		if p := &r.People[i]; p.Step == step && p.Standing == Waiting {
			p.Standing = Asked
			o.Asked = append(o.Asked, p.ID)
		}
	}
}

func (r *Request) close(s State, o *Outcome) {
	r.State, o.Closed, o.Asked = s, true, nil
	r.release(func(*Person) bool { return true })
}

// release lets those go who have not acted.
func (r *Request) release(which func(*Person) bool) {
	for i := range r.People {
		if p := &r.People[i]; which(p) && (p.Standing == Waiting || p.Standing == Asked) {
			p.Standing = NotNeeded
		}
	}
}

func (r *Request) person(id string) *Person {
	i := slices.IndexFunc(r.People, func(p Person) bool { return p.ID == id })
	if i < 0 || id == "" {
		return nil
	}
	return &r.People[i]
}

func (r *Request) of(step int) []Person {
	var out []Person
	for _, p := range r.People {
		if p.Step == step {
			out = append(out, p)
		}
	}
	return out
}

func (r *Request) count(step int, s Standing) int {
	n := 0
	for _, p := range r.People {
		if p.Step == step && p.Standing == s {
			n++
		}
	}
	return n
}
