package request_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/signer/internal/request"
)

var (
	update = flag.Bool("update", false, "write the table into the README")
	noon   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

const readme = "../../README.md"

// TestTable writes out what each verb does to a participant of each role and standing, and holds it
// against the table of the README.
func TestTable(t *testing.T) {
	var b strings.Builder
	standings := []request.Standing{request.Waiting, request.Asked, request.Done, request.Declined, request.NotNeeded, request.Replaced}
	b.WriteString("| verb | role |")
	for _, s := range standings {
		fmt.Fprintf(&b, " %s |", s)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(standings)) + "\n")
	for _, verb := range request.Verbs() {
		switch verb {
		case request.Remind, request.Withdraw, request.Expire:
			continue
		}
		for _, role := range []request.Role{request.Approver, request.Signer} {
			fmt.Fprintf(&b, "| %s | %s |", verb, role)
			for _, s := range standings {
				r := one(role, s)
				next, o, err := request.Next(r, request.Act{Verb: verb, Person: "p", Seen: "d", After: "d", Deputy: true, Until: noon.Add(time.Hour), Successor: "h", At: noon})
				var no *request.Refusal
				switch {
				case errors.As(err, &no):
					fmt.Fprintf(&b, " %s |", no.Code)
				case o.Closed:
					fmt.Fprintf(&b, " %s, request %s |", next.People[0].Standing, next.State)
				default:
					fmt.Fprintf(&b, " %s |", next.People[0].Standing)
				}
			}
			b.WriteString("\n")
		}
	}
	const begin, end = "<!-- table of internal/request: go test -update writes it -->\n", "<!-- end -->"
	raw, err := os.ReadFile(readme)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(raw), begin)
	require.True(t, ok, "the README has no place for the table")
	have, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile(readme, []byte(head+begin+b.String()+end+tail), 0o644))
		return
	}
	require.Equal(t, b.String(), have, "run go test ./signer/internal/request -update")
}

// one is a request of one person, who has viewed what is there.
func one(role request.Role, s request.Standing) request.Request {
	r, _ := request.New([]request.Person{{ID: "p", Role: role}}, []int{1}, "d", noon.Add(time.Hour))
	r.People[0].Standing, r.People[0].Seen = s, "d"
	return r
}

func code(err error) string {
	var no *request.Refusal
	if errors.As(err, &no) {
		return no.Code
	}
	return ""
}

func TestClosedRequestsStayAsTheyAre(t *testing.T) {
	for _, s := range []request.State{request.Completed, request.Refused, request.Withdrawn, request.Expired} {
		r := one(request.Signer, request.NotNeeded)
		r.State = s
		for _, v := range request.Verbs() {
			next, o, err := request.Next(r, request.Act{Verb: v, Person: "p", Seen: "d", At: noon.Add(2 * time.Hour)})
			require.Equal(t, request.CodeClosed, code(err), "%s %s", s, v)
			require.Equal(t, r, next)
			require.Zero(t, o)
		}
	}
}

// TestDelegates: a delegate views, approves when that was said and as long as it lasts, and never signs or
// refuses.
func TestDelegates(t *testing.T) {
	for _, role := range []request.Role{request.Approver, request.Signer} {
		r := one(role, request.Asked)
		_, _, err := request.Next(r, request.Act{Verb: request.View, Person: "p", ByDeputy: true, At: noon})
		require.Equal(t, request.CodeNoDelegate, code(err))
		for _, approves := range []bool{false, true} {
			d, _, err := request.Next(r, request.Act{Verb: request.Delegate, Person: "p", Deputy: true, Approves: approves, Until: noon.Add(time.Minute), At: noon})
			require.NoError(t, err)
			d, _, err = request.Next(d, request.Act{Verb: request.View, Person: "p", ByDeputy: true, At: noon})
			require.NoError(t, err)
			for _, v := range []request.Verb{request.Approve, request.Sign, request.Refuse, request.Delegate, request.Reassign} {
				_, _, err = request.Next(d, request.Act{Verb: v, Person: "p", ByDeputy: true, Seen: "d", After: "d", Deputy: true, Until: noon.Add(time.Minute), Successor: "h", At: noon})
				if v == request.Approve && approves && role == request.Approver {
					require.NoError(t, err)
					continue
				}
				require.Contains(t, []string{request.CodeMayNot, request.CodeRole}, code(err), "%s %s %t", role, v, approves)
			}
			_, _, err = request.Next(d, request.Act{Verb: request.View, Person: "p", ByDeputy: true, At: noon.Add(time.Minute)})
			require.Equal(t, request.CodeNoDelegate, code(err), "it is over")
			ended, _, err := request.Next(d, request.Act{Verb: request.Delegate, Person: "p", At: noon})
			require.NoError(t, err)
			_, _, err = request.Next(ended, request.Act{Verb: request.View, Person: "p", ByDeputy: true, At: noon})
			require.Equal(t, request.CodeNoDelegate, code(err))
		}
	}
}

// TestChangedDocuments: who viewed before a signature changed the file has to view again, also when they
// name the new digest.
func TestChangedDocuments(t *testing.T) {
	r, _ := request.New([]request.Person{{ID: "a", Role: request.Signer}, {ID: "b", Role: request.Signer}}, []int{0}, "d1", noon.Add(time.Hour))
	var err error
	for _, id := range []string{"a", "b"} {
		r, _, err = request.Next(r, request.Act{Verb: request.View, Person: id, At: noon})
		require.NoError(t, err)
	}
	r, _, err = request.Next(r, request.Act{Verb: request.Sign, Person: "a", Seen: "d1", After: "d2", At: noon})
	require.NoError(t, err)
	for _, seen := range []string{"d1", "d2"} {
		_, _, err = request.Next(r, request.Act{Verb: request.Sign, Person: "b", Seen: seen, After: "d3", At: noon})
		require.Equal(t, request.CodeChanged, code(err))
	}
	r, _, err = request.Next(r, request.Act{Verb: request.View, Person: "b", At: noon})
	require.NoError(t, err)
	r, o, err := request.Next(r, request.Act{Verb: request.Sign, Person: "b", Seen: "d2", After: "d3", At: noon})
	require.NoError(t, err)
	require.True(t, o.Closed)
	require.Equal(t, request.Completed, r.State)
}

// TestAnyOrder throws acts at requests in any order, as racing callers do, and holds what must be true of
// every request after every act.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, o := draw(t)
		clock, version, heirs := noon, 0, 0
		for range rapid.IntRange(1, 60).Draw(t, "acts") {
			holds(t, r)
			if o.Closed != (r.State != request.Open) {
				t.Fatalf("state %s, and closed %t was told", r.State, o.Closed)
			}
			if r.State != request.Open {
				return
			}
			clock = clock.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			a := request.Act{
				Verb: rapid.SampledFrom(append(request.Verbs(), request.View, request.View, request.Approve, request.Sign, request.Sign)).Draw(t, "verb"), Person: rapid.SampledFrom(r.People).Draw(t, "person").ID,
				ByDeputy: rapid.IntRange(0, 3).Draw(t, "deputy") == 0, Seen: r.Documents, After: fmt.Sprint("v", version+1),
				Deputy: rapid.Bool().Draw(t, "names"), Approves: rapid.Bool().Draw(t, "approves"), Until: clock.Add(time.Minute), Successor: fmt.Sprint("h", heirs), At: clock,
			}
			if rapid.IntRange(0, 9).Draw(t, "stale") == 0 {
				a.Seen = "something else"
			}
			next, told, err := request.Next(r, a)
			if err != nil {
				if code(err) == "" {
					t.Fatalf("no refusal: %v", err)
				}
				require.Equal(t, r, next, "a refusal changes nothing")
				o = request.Outcome{}
				continue
			}
			follows(t, r, next, a, told)
			if a.Verb == request.Sign {
				version++
			}
			if a.Verb == request.Reassign {
				heirs++
			}
			r, o = next, told
		}
	})
}

func draw(t *rapid.T) (request.Request, request.Outcome) {
	var people []request.Person
	var needs []int
	for step := range rapid.IntRange(1, 4).Draw(t, "steps") {
		n := rapid.IntRange(1, 4).Draw(t, "people")
		for i := range n {
			people = append(people, request.Person{ID: fmt.Sprintf("%d.%d", step, i), Step: step, Role: rapid.SampledFrom([]request.Role{request.Signer, request.Approver}).Draw(t, "role")})
		}
		needs = append(needs, rapid.IntRange(0, n).Draw(t, "needed"))
	}
	return request.New(people, needs, "v0", noon.Add(20*time.Minute))
}

func count(r request.Request, step int, s request.Standing) int {
	n := 0
	for _, p := range r.People {
		if p.Step == step && p.Standing == s {
			n++
		}
	}
	return n
}

// holds is what is true of every request.
func holds(t *rapid.T, r request.Request) {
	for step := range r.Needs {
		done, asked, waiting := count(r, step, request.Done), count(r, step, request.Asked), count(r, step, request.Waiting)
		switch {
		case done > r.Needs[step]:
			t.Fatalf("step %d: %d acted of %d", step, done, r.Needs[step])
		case step < r.Step && done != r.Needs[step]:
			t.Fatalf("step %d was passed with %d of %d", step, done, r.Needs[step])
		case step > r.Step && done+asked+count(r, step, request.Declined) > 0:
			t.Fatalf("step %d began before its turn", step)
		case r.State == request.Completed && done != r.Needs[step]:
			t.Fatalf("completed, and step %d has %d of %d", step, done, r.Needs[step])
		case r.State != request.Open && asked+waiting > 0:
			t.Fatalf("closed, and %d are asked", asked+waiting)
		case r.State == request.Open && step == r.Step && (asked == 0 || done+asked < r.Needs[step]):
			t.Fatalf("open, and step %d cannot be satisfied", step)
		}
	}
}

// follows is what is true of every step from one request to the next.
func follows(t *rapid.T, before, after request.Request, a request.Act, o request.Outcome) {
	signed := 0
	for i, p := range before.People {
		q := after.People[i]
		if p.Standing != request.Waiting && p.Standing != request.Asked && q.Standing != p.Standing {
			t.Fatalf("%s was %s and is %s", p.ID, p.Standing, q.Standing)
		}
		if q.Standing == request.Done && p.Standing != request.Done {
			signed++
			seen := p.Seen
			if a.ByDeputy {
				seen = p.SeenByDelegate
			}
			if p.ID != a.Person || (p.Role == request.Signer) != (a.Verb == request.Sign) || seen != before.Documents || a.Seen != before.Documents {
				t.Fatalf("%s is done by %+v", p.ID, a)
			}
			if a.ByDeputy && (p.Role == request.Signer || !p.DeputyApproves) {
				t.Fatalf("a delegate acted for %s", p.ID)
			}
		}
		if q.Standing == request.Asked && p.Standing == request.Waiting && !slices.Contains(o.Asked, q.ID) {
			t.Fatalf("%s is asked and not told", q.ID)
		}
	}
	if signed > 1 || (signed == 0 && after.Documents != before.Documents) {
		t.Fatalf("%d acted at once, documents %s -> %s", signed, before.Documents, after.Documents)
	}
	if after.State == request.Expired && a.At.Before(before.Deadline) || after.State == request.Completed && !a.At.Before(before.Deadline) {
		t.Fatalf("%s at %s, deadline %s", after.State, a.At, before.Deadline)
	}
}
