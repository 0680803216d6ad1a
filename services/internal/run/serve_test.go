package run_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/health/grpc_health_v1"

	operationsv1 "ceralacca.dev/proto/gen/ceralacca/operations/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/internal/telemetry"
)

type greetArgs struct {
	Name string `json:"name"`
}

func (greetArgs) Kind() string { return "greet" }

// TestProcess starts two targets in one process and looks at everything that
// the process offers around them.
func TestProcess(t *testing.T) {
	type config struct {
		Greeting string        `yaml:"greeting"`
		Pause    time.Duration `yaml:"pause"`
	}
	var first, second config
	looped := make(chan struct{})
	p := runtest.Start(t, runtest.Options{
		Targets: []run.Target{
			{Name: "invoice", Start: func(_ context.Context, h *run.Host) error {
				first = config{Greeting: "hello", Pause: time.Second}
				if err := h.Config(&first); err != nil {
					return err
				}
				h.Breaker("outside")
				h.Go("loop", func(ctx context.Context) error {
					close(looped)
					<-ctx.Done()
					return ctx.Err()
				})
				return nil
			}},
			{Name: "console", Stateless: true, Start: func(_ context.Context, h *run.Host) error {
				h.HTTP.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
				return h.Config(&second)
			}},
		},
		Config: "invoice: {greeting: ciao}\nconsole: {pause: 3s}\n",
	})
	require.Equal(t, config{Greeting: "ciao", Pause: time.Second}, first)
	require.Equal(t, config{Pause: 3 * time.Second}, second)
	<-looped
	require.NotNil(t, p.Host("invoice").DB)
	require.Nil(t, p.Host("console").DB)

	require.Equal(t, "hello", get(t, "http://"+p.HTTP+"/hello", http.StatusOK))
	require.Contains(t, get(t, "http://"+p.Admin+"/healthz", http.StatusOK), `"alive": true`)
	require.Contains(t, get(t, "http://"+p.Admin+"/readyz?target=invoice", http.StatusOK), `"database": ""`)
	get(t, "http://"+p.Admin+"/readyz?target=nobody", http.StatusServiceUnavailable)
	require.Contains(t, get(t, "http://"+p.Admin+"/metrics", http.StatusOK), "ceralacca_breaker_state")
	require.Contains(t, get(t, "http://"+p.Admin+"/breakers", http.StatusOK), `"closed"`)
	require.Contains(t, get(t, "http://"+p.Admin+"/config", http.StatusOK), "greeting: ciao")
	require.Equal(t, "[]\n", get(t, "http://"+p.Admin+"/jobs", http.StatusOK))
	get(t, "http://"+p.Admin+"/debug/pprof/goroutine?debug=1", http.StatusOK)

	health := grpc_health_v1.NewHealthClient(p.DialKey("invoice", ""))
	resp, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "console"})
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, resp.GetStatus())
}

func get(t *testing.T, url string, status int) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, status, resp.StatusCode, string(body))
	return string(body)
}

// TestJobs: a job exists if and only if its transaction commits, carries trace,
// tenant, correlation and causation, is retried when it fails for a while, and
// parked when it fails for good; an operator can then retry it.
func TestJobs(t *testing.T) {
	type seen struct{ name, tenant, correlation, causation, trace string }
	done := make(chan seen, 10)
	var mended atomic.Bool
	var tries atomic.Int32
	p := runtest.Start(t, runtest.Options{Targets: []run.Target{{
		Name: "invoice", Start: func(_ context.Context, h *run.Host) error {
			run.Work(h, run.WorkOptions{Workers: 2}, func(ctx context.Context, job *river.Job[greetArgs]) error {
				switch {
				case job.Args.Name == "refused" && !mended.Load():
					return fault.Invalid("NAME_REFUSED", "not this one")
				case job.Args.Name == "panics" && !mended.Load():
					panic("oh")
				case job.Args.Name == "later" && tries.Add(1) < 3:
					return fault.Unavailable("AWAY", "not now").WithRetryAfter(30 * time.Millisecond)
				}
				meta := bus.Meta(ctx)
				done <- seen{job.Args.Name, pg.Tenant(ctx), bus.Correlation(ctx), meta.ID, telemetry.TraceID(telemetry.Inject(ctx))}
				return nil
			})
			return nil
		},
	}}})
	h := p.Host("invoice")
	insert := func(name string, opts *river.InsertOpts, commit bool) {
		t.Helper()
		ctx := bus.WithMeta(t.Context(), bus.Envelope{ID: "cause-1", Correlation: "story-1"})
		ctx = telemetry.Extract(ctx, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		err := h.DB.Tx(ctx, "t1", func(ctx context.Context, tx pgx.Tx) error {
			err := h.Jobs.InsertTx(ctx, tx, greetArgs{Name: name}, opts)
			if err == nil && !commit {
				return errors.New("rolled back")
			}
			return err
		})
		require.Equal(t, commit, err == nil, err)
	}
	wait := func() seen {
		t.Helper()
		select {
		case s := <-done:
			return s
		case <-time.After(20 * time.Second):
			t.Fatal("no job was done")
			return seen{}
		}
	}
	insert("never", nil, false)
	begin := time.Now()
	insert("anna", nil, true)
	require.Equal(t, seen{"anna", "t1", "story-1", "cause-1", "0af7651916cd43dd8448eb211c80319c"}, wait())
	t.Logf("commit to job: %s", time.Since(begin))

	insert("later", nil, true)
	require.Equal(t, "later", wait().name)
	require.EqualValues(t, 3, tries.Load())

	insert("refused", nil, true)
	insert("panics", &river.InsertOpts{MaxAttempts: 1}, true)
	ops := operationsv1.NewOperationsServiceClient(p.Operator("invoice"))
	var parked []*operationsv1.ParkedEvent
	require.Eventually(t, func() bool {
		list, err := ops.ListParkedEvents(t.Context(), &operationsv1.ListParkedEventsRequest{})
		require.NoError(t, err)
		parked = list.GetParkedEvents()
		return len(parked) == 2
	}, 20*time.Second, 20*time.Millisecond)
	codes := map[string]*operationsv1.ParkedEvent{}
	for _, one := range parked {
		codes[one.GetCode()] = one
		require.Equal(t, "job", one.GetKind())
		require.Equal(t, "greet", one.GetHandler())
		require.Equal(t, "t1", one.GetTenant())
		require.Equal(t, "story-1", one.GetCorrelation())
		require.Equal(t, "0af7651916cd43dd8448eb211c80319c", one.GetTraceId())
	}
	require.Contains(t, codes, "NAME_REFUSED")
	require.Contains(t, codes, "PANIC")

	one, err := ops.GetParkedEvent(t.Context(), &operationsv1.GetParkedEventRequest{Name: codes["NAME_REFUSED"].GetName()})
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"refused"}`, one.GetPayloadJson())

	mended.Store(true)
	_, err = ops.RetryParkedEvent(t.Context(), &operationsv1.RetryParkedEventRequest{Name: one.GetName()})
	require.NoError(t, err)
	require.Equal(t, seen{"refused", "t1", "story-1", "cause-1", "0af7651916cd43dd8448eb211c80319c"}, wait())
	_, err = ops.DropParkedEvent(t.Context(), &operationsv1.DropParkedEventRequest{Name: codes["PANIC"].GetName(), Reason: "a test"})
	require.NoError(t, err)
	_, err = ops.GetParkedEvent(t.Context(), &operationsv1.GetParkedEventRequest{Name: one.GetName()})
	require.Equal(t, "PARKED_NOT_FOUND", fault.Of(err).Code)

	audit, err := ops.ListAuditEntries(t.Context(), &operationsv1.ListAuditEntriesRequest{Service: "invoice", PageSize: 1})
	require.NoError(t, err)
	require.Len(t, audit.GetAuditEntries(), 1)
	require.Equal(t, "parked.drop", audit.GetAuditEntries()[0].GetAction())
	require.Equal(t, "a test", audit.GetAuditEntries()[0].GetDetail()["reason"])
	require.NotEmpty(t, audit.GetNextPageToken())
	audit, err = ops.ListAuditEntries(t.Context(), &operationsv1.ListAuditEntriesRequest{
		Service: "invoice", PageSize: 1, PageToken: audit.GetNextPageToken()})
	require.NoError(t, err)
	require.Equal(t, "parked.retry", audit.GetAuditEntries()[0].GetAction())
}

// TestOperationsAreForOperators: nobody else sees or touches them.
func TestOperationsAreForOperators(t *testing.T) {
	p := runtest.Start(t, runtest.Options{Targets: []run.Target{idle("invoice"), idle("signer")}})
	for name, conn := range map[string]operationsv1.OperationsServiceClient{
		"tenant":   operationsv1.NewOperationsServiceClient(p.Tenant("invoice", "t1")),
		"reseller": operationsv1.NewOperationsServiceClient(p.DialKey("invoice", p.Key(auth.Caller{Role: auth.RoleReseller, Reseller: "r1", Scopes: []string{"*"}}))),
		"service":  operationsv1.NewOperationsServiceClient(p.DialAs("invoice", "signer")),
	} {
		_, err := conn.ListBreakers(t.Context(), &operationsv1.ListBreakersRequest{})
		require.Equal(t, fault.KindDenied, fault.Of(err).Kind, name)
	}
	_, err := operationsv1.NewOperationsServiceClient(p.DialKey("invoice", "")).ListBreakers(t.Context(), &operationsv1.ListBreakersRequest{})
	require.Equal(t, "CREDENTIAL_MISSING", fault.Of(err).Code)

	ops := operationsv1.NewOperationsServiceClient(p.Operator("signer"))
	_, err = ops.ListParkedEvents(t.Context(), &operationsv1.ListParkedEventsRequest{Service: "pec-gateway"})
	require.Equal(t, "SERVICE_NOT_HERE", fault.Of(err).Code)
	cfg, err := ops.GetEffectiveConfig(t.Context(), &operationsv1.GetEffectiveConfigRequest{})
	require.NoError(t, err)
	require.Contains(t, cfg.GetYaml(), "nats:")
}

// TestParkedPages: pages run through all services of a process without a gap.
func TestParkedPages(t *testing.T) {
	p := runtest.Start(t, runtest.Options{Targets: []run.Target{idle("invoice"), idle("console-less"), idle("signer")}})
	want := map[string]bool{}
	for _, service := range []string{"invoice", "signer"} {
		h := p.Host(service)
		for i := range 4 {
			id, err := pg.NewID()
			require.NoError(t, err)
			want[service+fmt.Sprint(i)] = true
			require.NoError(t, h.DB.Tx(t.Context(), "t1", func(ctx context.Context, tx pgx.Tx) error {
				return h.Bus.Park(ctx, tx, bus.Parked{Kind: bus.KindJob, Consumer: service + fmt.Sprint(i), EventID: id,
					Tenant: "t1", EventTime: time.Now(), Payload: []byte("{}"), Code: "X"})
			}))
		}
	}
	ops := operationsv1.NewOperationsServiceClient(p.Operator("invoice"))
	for size := int32(1); size <= 9; size++ {
		got, token := map[string]bool{}, ""
		for page := 0; page == 0 || token != ""; page++ {
			require.Less(t, page, 12)
			resp, err := ops.ListParkedEvents(t.Context(), &operationsv1.ListParkedEventsRequest{PageSize: size, PageToken: token})
			require.NoError(t, err)
			require.LessOrEqual(t, len(resp.GetParkedEvents()), int(size))
			for _, one := range resp.GetParkedEvents() {
				require.False(t, got[one.GetHandler()], "%s came twice", one.GetHandler())
				got[one.GetHandler()] = true
			}
			token = resp.GetNextPageToken()
		}
		require.Equal(t, want, got, "page size %d", size)
	}
}

func idle(name string) run.Target {
	return run.Target{Name: name, Start: func(context.Context, *run.Host) error { return nil }}
}

// tenancy is as much of a tenancy service as resolving keys needs.
type tenancy struct {
	tenancyv1.UnimplementedTenancyServiceServer
	hash  []byte
	asked atomic.Int32
}

func (s *tenancy) ResolveApiKey(_ context.Context, req *tenancyv1.ResolveApiKeyRequest) (*tenancyv1.ResolveApiKeyResponse, error) {
	s.asked.Add(1)
	if string(req.GetSecretSha256()) != string(s.hash) {
		return nil, fault.Unauthenticated("API_KEY_UNKNOWN", "this API key is not known")
	}
	return &tenancyv1.ResolveApiKeyResponse{ApiKey: "operators/main/apiKeys/k1", Role: "operator", Live: true}, nil
}

// TestKeysOverTheWire: a process without the tenancy target asks the one that
// has it, over mutual TLS, once per TTL, and survives its absence.
func TestKeysOverTheWire(t *testing.T) {
	key, err := auth.NewKey(true)
	require.NoError(t, err)
	tls := t.TempDir()
	service := &tenancy{hash: auth.HashKey(key)}
	owner := runtest.Start(t, runtest.Options{TLSDir: tls, Targets: []run.Target{{
		Name: "tenancy", Start: func(_ context.Context, h *run.Host) error {
			tenancyv1.RegisterTenancyServiceServer(h.RPC, service)
			return nil
		}}}})

	far := startFar(t, tls, owner.RPC)
	ops := operationsv1.NewOperationsServiceClient(far.DialKey("invoice", key))
	for range 3 {
		_, err = ops.ListBreakers(t.Context(), &operationsv1.ListBreakersRequest{})
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, service.asked.Load(), "the answer is remembered")

	other, err := auth.NewKey(true)
	require.NoError(t, err)
	_, err = operationsv1.NewOperationsServiceClient(far.DialKey("invoice", other)).ListBreakers(t.Context(), &operationsv1.ListBreakersRequest{})
	require.Equal(t, "API_KEY_UNKNOWN", fault.Of(err).Code)
	require.Equal(t, fault.KindUnauthenticated, fault.Of(err).Kind)

	owner.Stop()
	third, err := auth.NewKey(true)
	require.NoError(t, err)
	_, err = operationsv1.NewOperationsServiceClient(far.DialKey("invoice", third)).ListBreakers(t.Context(), &operationsv1.ListBreakersRequest{})
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind, "an outage is not a refusal")
}

// TestFailures: each ends Serve with an error that says what and where.
func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		start func(ctx context.Context, h *run.Host) error
		want  string
	}{
		"wiring fails": {func(context.Context, *run.Host) error { return errors.New("no such thing") }, "target invoice: no such thing"},
		"unknown key":  {func(_ context.Context, h *run.Host) error { return h.Config(&struct{}{}) }, `unknown key "greeting"`},
		"missing peer": {func(_ context.Context, h *run.Host) error { h.Dial("signer"); return nil }, `rpc.peers has no address of target "signer"`},
		"no access":    {func(_ context.Context, h *run.Host) error { registerWithoutAccess(h.RPC); return nil }, "no option (ceralacca.tenancy.v1.access)"},
		"loop fails": {func(_ context.Context, h *run.Host) error {
			h.Go("bad", func(context.Context) error { return errors.New("burst") })
			return nil
		}, "run: invoice bad: burst"},
		"loop panics": {func(_ context.Context, h *run.Host) error {
			h.Go("bad", func(context.Context) error { panic("burst") })
			return nil
		}, "panic: burst"},
		"job kind twice": {func(_ context.Context, h *run.Host) error { work(h); work(h); return nil }, "jobs of kind greet"},
	} {
		t.Run(name, func(t *testing.T) {
			err := serveOnce(t, run.Target{Name: "invoice", Start: c.start}, "invoice: {greeting: ciao}\n")
			require.ErrorContains(t, err, c.want)
		})
	}
}

func work(h *run.Host) {
	run.Work(h, run.WorkOptions{}, func(context.Context, *river.Job[greetArgs]) error { return nil })
}

// TestReadiness: a condition that ceases to hold is seen at /readyz and in the
// gRPC health service, and so is its return.
func TestReadiness(t *testing.T) {
	var broken atomic.Bool
	p := runtest.Start(t, runtest.Options{Targets: []run.Target{{Name: "invoice", Start: func(_ context.Context, h *run.Host) error {
		h.Check("vault", func(context.Context) error {
			if broken.Load() {
				return errors.New("vault is sealed")
			}
			return nil
		})
		return nil
	}}}})
	state := func() (bool, string) {
		var body struct {
			Ready   bool
			Targets map[string]map[string]string
		}
		resp, err := http.Get("http://" + p.Admin + "/readyz")
		require.NoError(t, err)
		defer resp.Body.Close()
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&body))
		return body.Ready, body.Targets["invoice"]["vault"]
	}
	ready, _ := state()
	require.True(t, ready)
	broken.Store(true)
	require.Eventually(t, func() bool {
		ready, why := state()
		return !ready && why == "vault is sealed"
	}, 10*time.Second, 50*time.Millisecond)
	health := grpc_health_v1.NewHealthClient(p.DialKey("invoice", ""))
	require.Eventually(t, func() bool { // which hears of it a moment after /readyz
		resp, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "invoice"})
		require.NoError(t, err)
		return resp.GetStatus() == grpc_health_v1.HealthCheckResponse_NOT_SERVING
	}, 10*time.Second, 5*time.Millisecond)
	broken.Store(false)
	require.Eventually(t, func() bool { ready, _ := state(); return ready }, 10*time.Second, 50*time.Millisecond)
}
