// Package harness runs the platform's own programs for black-box tests and load: one process that hosts
// every target, or one process for each, on servers that `ceralacca-dev backing` brings up and breaks on
// command. It speaks to them over their public wire only.
//
// It refuses to look inside: no package of a service is imported, and no table is read.
package harness

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ceralacca.dev/services/sandbox/client"
)

// Mode is the shape of the deployment. A scenario is written once and runs in both.
type Mode string

// The two shapes.
const (
	OneProcess    Mode = "one-process"
	ManyProcesses Mode = "many-processes"
)

// Modes are both shapes, to loop over.
var Modes = []Mode{OneProcess, ManyProcesses}

// Targets are the services of the platform.
var Targets = []string{"tenancy", "invoice", "signer", "sdi-gateway", "pec-gateway", "conservation", "notification"}

// Options say what to start.
type Options struct {
	Mode Mode
	// Dir keeps the servers' files and the logs.
	Dir string
	// Impatient shortens pauses, for tests that break things.
	Impatient bool
	// ECDSAReceipts makes the sandbox sign receipts with P-256 instead of RSA-2048.
	ECDSAReceipts bool
	// RSA makes signing keys RSA-3072 instead of P-256.
	RSA bool
	// Env is added to the environment of the platform's processes, NAME=value.
	Env []string
	// Log receives what the programs write to standard error; nil: files in Dir only.
	Log io.Writer
}

// Backing is what `ceralacca-dev backing` prints about its servers.
type Backing struct {
	Configs     map[string]string `json:"configs"`
	RPC         map[string]string `json:"rpc"`
	Admin       map[string]string `json:"admin"`
	CAFile      string            `json:"ca_file"`
	OperatorKey string            `json:"operator_key"`
	SdI         struct {
		Control  string `json:"control_url"`
		CAFile   string `json:"ca_file"`
		Callback string `json:"callback_url"`
	} `json:"sdi"`
}

// Platform is a running deployment.
type Platform struct {
	Backing
	Options
	Sandbox *client.Client

	bin     string
	backing *process
	answers chan string
	command io.WriteCloser

	mu        sync.Mutex
	processes map[string]*process
	conns     connections

	// Of a platform that is shared: which scenario it is lent to, and where its logs begin.
	scenario int
	logStart map[string]int64
}

// process is one program under test.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	log  *os.File
}

// T starts a platform for a test and stops it at its end; the logs are shown when the test fails.
func T(t testing.TB, o Options) *Platform {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	p, err := Start(ctx, o)
	if err != nil {
		t.Fatalf("harness: %v", err)
	}
	t.Cleanup(func() {
		err := p.Stop()
		if err != nil {
			t.Errorf("harness: %v", err)
		}
		if t.Failed() {
			p.dumpLogs(t)
		}
	})
	return p
}

// Start brings the servers up, then the platform's processes, and waits until all are ready.
func Start(ctx context.Context, o Options) (*Platform, error) {
	p := &Platform{Options: o, processes: map[string]*process{}, answers: make(chan string, 1)}
	var err error
	p.bin, err = p.freeze(ctx)
	if err != nil {
		return nil, err
	}
	err = p.startBacking()
	if err == nil {
		err = p.migrate(ctx)
	}
	for _, name := range p.names() {
		if err == nil {
			err = p.StartProcess(name)
		}
	}
	if err == nil {
		err = p.AwaitReady(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	p.Sandbox = client.New(p.SdI.Control)
	return p, nil
}

// names of the processes in this mode.
func (p *Platform) names() []string {
	if p.Mode == OneProcess {
		return []string{"all"}
	}
	return Targets
}

// ProcessOf names the process that hosts a target.
func (p *Platform) ProcessOf(target string) string {
	if p.Mode == OneProcess {
		return "all"
	}
	return target
}

func (p *Platform) startBacking() error {
	arguments := []string{"backing", "--dir", filepath.Join(p.Dir, "backing")}
	if p.Impatient {
		arguments = append(arguments, "--impatient")
	}
	if p.ECDSAReceipts {
		arguments = append(arguments, "--ecdsa-receipts")
	}
	cmd := exec.Command(filepath.Join(p.bin, "ceralacca-dev"), arguments...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p.command = in
	p.backing, err = p.spawn("backing", cmd)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		return fmt.Errorf("ceralacca-dev backing said nothing and ended; its log: %s", p.logFile("backing"))
	}
	err = json.Unmarshal(lines.Bytes(), &p.Backing)
	if err != nil {
		return fmt.Errorf("ceralacca-dev backing said %q: %w", lines.Text(), err)
	}
	go func() {
		for lines.Scan() {
			p.answers <- lines.Text()
		}
		close(p.answers)
	}()
	return nil
}

// Break tells the backing to stop, kill, start, pause or resume a server: postgres, vault or nats.
func (p *Platform) Break(act, server string) error {
	if p.scenario > 0 {
		return fmt.Errorf("%s %s: this platform is shared; take one of your own with T", act, server)
	}
	_, err := fmt.Fprintf(p.command, "%s %s\n", act, server)
	if err != nil {
		return err
	}
	select {
	case answer := <-p.answers:
		if answer != "ok" {
			return fmt.Errorf("%s %s: %s", act, server, answer)
		}
		return nil
	case <-time.After(2 * time.Minute):
		return fmt.Errorf("%s %s: no answer", act, server)
	}
}

func (p *Platform) migrate(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "ceralaccad"), "migrate", "--config", p.Configs["all"])
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("ceralaccad migrate: %w: %s", err, out)
	}
	return nil
}

// StartProcess starts a process that is not running.
func (p *Platform) StartProcess(name string) error {
	target := name
	cmd := exec.Command(filepath.Join(p.bin, "ceralaccad"), "serve", "--target", target, "--config", p.Configs[name])
	cmd.Env = append(os.Environ(), p.Env...)
	started, err := p.spawn(name, cmd)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.processes[name] = started
	p.mu.Unlock()
	return nil
}

// Kill ends a process as a power cut does.
func (p *Platform) Kill(name string) error { return p.signal(name, syscall.SIGKILL) }

// Terminate ends a process in order.
func (p *Platform) Terminate(name string) error { return p.signal(name, syscall.SIGTERM) }

func (p *Platform) signal(name string, sig syscall.Signal) error {
	p.mu.Lock()
	running := p.processes[name]
	delete(p.processes, name)
	p.mu.Unlock()
	if running == nil {
		return fmt.Errorf("process %s is not running", name)
	}
	return running.end(sig)
}

// Restart kills a process and starts it again.
func (p *Platform) Restart(name string) error {
	err := p.Kill(name)
	if err != nil {
		return err
	}
	return p.StartProcess(name)
}

// PID of a running process; 0 when it is not running.
func (p *Platform) PID(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.processes[name] == nil {
		return 0
	}
	return p.processes[name].cmd.Process.Pid
}

// BackingPID is the process that holds the sandbox; the servers are its children.
func (p *Platform) BackingPID() int { return p.backing.cmd.Process.Pid }

func (p *Platform) logFile(name string) string { return filepath.Join(p.Dir, name+".log") }

func (p *Platform) spawn(name string, cmd *exec.Cmd) (*process, error) {
	log, err := os.OpenFile(p.logFile(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	cmd.Stderr = log
	if p.Log != nil {
		cmd.Stderr = io.MultiWriter(log, p.Log)
	}
	// Whatever becomes of the test, its programs end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err = cmd.Start()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	started := &process{cmd: cmd, done: make(chan struct{}), log: log}
	go func() {
		_ = cmd.Wait() // the exit code is in the log; an end that nobody asked for shows in the test
		close(started.done)
	}()
	return started, nil
}

func (r *process) end(sig syscall.Signal) error {
	_ = r.cmd.Process.Signal(sig) // it may have ended already
	select {
	case <-r.done:
		return r.log.Close()
	case <-time.After(40 * time.Second):
		_ = r.cmd.Process.Kill()
		<-r.done
		return errors.Join(fmt.Errorf("%s did not end within 40 s after %s", r.cmd.Args[0], sig), r.log.Close())
	}
}

// Stop ends everything, the platform first.
func (p *Platform) Stop() error {
	p.conns.close()
	p.mu.Lock()
	running := p.processes
	p.processes = map[string]*process{}
	p.mu.Unlock()
	ended := make(chan error, len(running))
	for _, r := range running {
		go func() { ended <- r.end(syscall.SIGTERM) }()
	}
	var problems []error
	for range running {
		problems = append(problems, <-ended)
	}
	if p.backing != nil {
		_ = p.command.Close()
		select {
		case <-p.backing.done:
		case <-time.After(30 * time.Second):
			problems = append(problems, errors.New("ceralacca-dev backing did not end within 30 s"))
		}
		problems = append(problems, p.backing.end(syscall.SIGKILL))
	}
	return errors.Join(problems...)
}

// Logs is what the platform's processes have written so far.
func (p *Platform) Logs() (string, error) {
	var all strings.Builder
	for _, name := range p.names() {
		raw, err := os.ReadFile(p.logFile(name))
		if err != nil {
			return "", err
		}
		all.Write(raw)
	}
	return all.String(), nil
}

func (p *Platform) logNames() []string { return append([]string{"backing"}, p.names()...) }

func (p *Platform) dumpLogs(t testing.TB) {
	for _, name := range p.logNames() {
		raw, err := os.ReadFile(p.logFile(name))
		if err != nil {
			continue
		}
		raw = raw[min(p.logStart[name], int64(len(raw))):]
		lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
		var wanted []string
		for _, line := range lines {
			if !strings.Contains(line, "level=INFO") {
				wanted = append(wanted, line)
			}
		}
		t.Logf("--- log of %s, warnings and worse, last 40 lines\n%s", name, strings.Join(wanted[max(0, len(wanted)-40):], "\n"))
	}
}

// programs builds the platform's programs once and says where they are.
var programs = func() func(ctx context.Context) (string, error) {
	var once sync.Once
	var dir string
	var err error
	return func(ctx context.Context) (string, error) {
		once.Do(func() { dir, err = build(ctx) })
		return dir, err
	}
}()

// Programs builds the platform's programs, once for a test binary, and gives the folder that holds them.
func Programs(ctx context.Context) (string, error) { return programs(ctx) }

func build(ctx context.Context) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, ".cache", "tested")
	err = os.MkdirAll(bin, 0o755)
	if err != nil {
		return "", err
	}
	// Test packages run beside each other: the second finds what the first has built. Closing unlocks.
	turn, err := os.OpenFile(bin+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { _ = turn.Close() }()
	err = syscall.Flock(int(turn.Fd()), syscall.LOCK_EX)
	if err != nil {
		return "", fmt.Errorf("lock %s: %w", turn.Name(), err)
	}
	// Without what only a debugger reads they are linked in half the time.
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", bin+"/", "./cmd/ceralaccad", "./cmd/ceralacca-dev", "./cmd/ceralacca")
	cmd.Dir = filepath.Join(root, "services")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the programs: %w: %s", err, out)
	}
	return bin, nil
}

// freeze gives the platform its own copies of the programs: a build in the same checkout, of other tests or
// of a person at work, must not change what a test starts again in its middle.
func (p *Platform) freeze(ctx context.Context) (string, error) {
	built, err := programs(ctx)
	if err != nil {
		return "", err
	}
	own := filepath.Join(p.Dir, "bin")
	err = os.MkdirAll(own, 0o755)
	if err != nil {
		return "", err
	}
	for _, name := range []string{"ceralaccad", "ceralacca-dev", "ceralacca"} {
		from, to := filepath.Join(built, name), filepath.Join(own, name)
		_ = os.Remove(to) // of an earlier run in the same folder
		err = os.Link(from, to)
		if err == nil {
			continue
		}
		content, err := os.ReadFile(from) // another file system
		if err != nil {
			return "", err
		}
		err = os.WriteFile(to, content, 0o755)
		if err != nil {
			return "", err
		}
	}
	return own, nil
}

// Root is the checkout: the nearest parent folder with a go.work.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		_, err = os.Stat(filepath.Join(dir, "go.work"))
		if err == nil {
			return dir, nil
		}
	}
	return "", errors.New("harness: not inside a checkout: no go.work in any parent folder")
}

// CLI runs the command line tool with the tenant's key and returns what it prints.
func (p *Platform) CLI(ctx context.Context, key, tenant string, arguments ...string) (string, error) {
	cmd := p.Command(ctx, key, tenant, arguments...)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("ceralacca %s: %w: %s", strings.Join(arguments, " "), err, errOut.String())
	}
	return string(out), nil
}

// Erase runs the program that destroys what disposals released, once, as its timer does, and gives what it says.
func (p *Platform) Erase(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "ceralaccad"), "conservation", "erase", "--config", p.Configs[p.ProcessOf("conservation")])
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("ceralaccad conservation erase: %w: %s", err, out)
	}
	return string(out), nil
}

// Stores are the folders that hold documents: the platform's store, then the archive's replicas.
func (p *Platform) Stores() []string {
	var dirs []string
	for _, dir := range []string{"blob", "archive/primary", "archive/second"} {
		dirs = append(dirs, filepath.Join(p.Dir, "backing", filepath.FromSlash(dir)))
	}
	return dirs
}

// Command is a command of the tool that has not begun: for those that do not end by themselves.
func (p *Platform) Command(ctx context.Context, key, tenant string, arguments ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "ceralacca"), arguments...)
	cmd.Env = append(slices.Clone(os.Environ()), "CERALACCA_SERVER="+p.server(), "CERALACCA_CA_FILE="+p.CAFile,
		"CERALACCA_API_KEY="+key, "CERALACCA_TENANT="+tenant)
	return cmd
}

// server is --server of the command line tool in this mode.
func (p *Platform) server() string {
	if p.Mode == OneProcess {
		return p.RPC["all"]
	}
	var parts []string
	for _, name := range Targets {
		parts = append(parts, name+"="+p.RPC[name])
	}
	return strings.Join(parts, ",")
}
