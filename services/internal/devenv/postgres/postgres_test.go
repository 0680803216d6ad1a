package postgres

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/child"
)

// helperVariable turns this test binary into a small program that holds a server
// and waits, so that a test can kill it.
const helperVariable = "CERALACCA_DEVENV_HELPER"

func TestMain(m *testing.M) {
	how, dir, ok := strings.Cut(os.Getenv(helperVariable), ":")
	if !ok {
		os.Exit(m.Run())
	}
	address, err := helper(context.Background(), how, dir)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(address)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test closes our input or kills us
	os.Exit(0)
}

func helper(ctx context.Context, how, dir string) (string, error) {
	if how == "shared" {
		root, err := devenv.Root()
		if err != nil {
			return "", err
		}
		address, _, err := shared{dir: dir}.join(ctx, root) // held until we exit
		return address, err
	}
	c, err := Start(ctx, Options{Dir: dir, Private: true})
	if err != nil {
		return "", err
	}
	return c.URL(""), nil
}

// startHelper runs a helper and returns it with the address that it printed.
func startHelper(t *testing.T, how, dir string) (*exec.Cmd, io.WriteCloser, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperVariable+"="+how+":"+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "postgres://")
	return cmd, stdin, strings.TrimSpace(line)
}

// openDir is a temporary folder that any account can reach (t.TempDir is closed).
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ceralacca-pg-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	dir, err = filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	return filepath.Join(dir, "pg")
}

func start(t *testing.T, o Options) *Cluster {
	t.Helper()
	o.Private = true
	c, err := Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Stop()) })
	return c
}

func exe(t *testing.T, address, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

func count(t *testing.T, address string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM kept").Scan(&n))
	require.NoError(t, conn.Close(t.Context()))
	return n
}

func gone(t *testing.T, data string, within time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool {
		pids, err := leftovers(data)
		return err == nil && len(pids) == 0
	}, within, 50*time.Millisecond, "a server process is left on %s", data)
}

func TestCommittedRowsSurviveStopKillAndRestart(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	c := start(t, Options{Dir: dir})
	require.NoError(t, c.EnsureDatabase(t.Context(), "work"))
	require.NoError(t, c.EnsureDatabase(t.Context(), "work"))
	exe(t, c.URL("work"), "CREATE TABLE kept (id int)")
	exe(t, c.URL("work"), "INSERT INTO kept VALUES (1)")
	require.NoError(t, c.Stop())
	gone(t, c.data, time.Second)

	c = start(t, Options{Dir: dir})
	before := c.URL("work")
	exe(t, before, "INSERT INTO kept VALUES (2)")
	require.NoError(t, c.Kill())
	require.Error(t, ping(t.Context(), before))
	require.NoError(t, c.Restart(t.Context()))
	require.Equal(t, before, c.URL("work"), "a restart keeps the address")
	require.Equal(t, 2, count(t, before))
	require.NoError(t, c.Restart(t.Context()))
	require.Equal(t, 2, count(t, before))
}

func TestServerEndsWithItsKilledParentAndRecovers(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	cmd, _, address := startHelper(t, "own", dir)
	exe(t, address, "CREATE TABLE kept (id int)")
	exe(t, address, "INSERT INTO kept VALUES (1)")
	data := filepath.Join(dir, "data")
	require.NotZero(t, postmasterPID(data))
	require.NoError(t, cmd.Process.Kill())
	gone(t, data, 20*time.Second)

	c := start(t, Options{Dir: dir})
	require.Equal(t, 1, count(t, c.URL("")))
}

func TestRunningOrphanIsStoppedFirst(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	c := start(t, Options{Dir: dir})
	exe(t, c.URL(""), "CREATE TABLE kept (id int)")
	require.NoError(t, c.Stop())

	// The same server again, but bound to nobody: what a parent killed on a system
	// without death signals would leave.
	orphan := exec.Command(filepath.Join(c.bin.dir, "postgres"), c.arguments()...)
	orphan.Dir, orphan.Env = c.dir, environment()
	orphan.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.who != nil {
		orphan.SysProcAttr.Credential = &syscall.Credential{Uid: c.who.UID, Gid: c.who.GID}
	}
	require.NoError(t, orphan.Start())
	ended := make(chan error, 1)
	go func() { ended <- orphan.Wait() }()
	require.Eventually(t, func() bool { return ping(t.Context(), c.URL("")) == nil }, 10*time.Second, 20*time.Millisecond)

	again := start(t, Options{Dir: dir})
	select {
	case <-ended:
	case <-time.After(time.Second):
		t.Fatal("the orphan still runs")
	}
	require.Equal(t, 0, count(t, again.URL("")))
}

func TestStalePIDFileOfAnotherProcessIsRemoved(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	c := start(t, Options{Dir: dir})
	require.NoError(t, c.Stop())
	// The pid of a living process that is no server: PostgreSQL alone would refuse.
	stale := fmt.Sprintf("%d\n%s\n%d\n%d\n\n127.0.0.1\n", os.Getpid(), c.data, time.Now().Unix(), c.port)
	require.NoError(t, os.WriteFile(filepath.Join(c.data, "postmaster.pid"), []byte(stale), 0o644))
	again := start(t, Options{Dir: dir})
	require.NoError(t, ping(t.Context(), again.URL("")))
}

func TestHalfMadeClusterIsMadeAgain(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "data.new", "base"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data.new", "PG_VERSION"), []byte("15\n"), 0o600))
	c := start(t, Options{Dir: dir})
	require.NoError(t, ping(t.Context(), c.URL("")))
	require.NoDirExists(t, filepath.Join(dir, "data.new"))
}

// TestClustersOfACheckoutAreCopies: initdb ran once for both, and each has its own rows.
func TestClustersOfACheckoutAreCopies(t *testing.T) {
	t.Parallel()
	identity := func(c *Cluster) (id int64) {
		conn, err := pgx.Connect(t.Context(), c.URL(""))
		require.NoError(t, err)
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT system_identifier FROM pg_control_system()").Scan(&id))
		require.NoError(t, conn.Close(t.Context()))
		return id
	}
	one, two := start(t, Options{Dir: openDir(t)}), start(t, Options{Dir: openDir(t), Throwaway: true})
	require.Equal(t, identity(one), identity(two))
	exe(t, one.URL(""), "CREATE TABLE kept (id int)")
	exe(t, two.URL(""), "CREATE TABLE kept (id int)")
	exe(t, one.URL(""), "INSERT INTO kept VALUES (1)")
	require.Equal(t, 0, count(t, two.URL("")))
	info, err := os.Stat(filepath.Join(one.dir, "password"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestSecondUserOfTheFolderIsRefused(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	start(t, Options{Dir: dir})
	_, err := Start(t.Context(), Options{Dir: dir, Private: true})
	require.ErrorContains(t, err, "another process is using the database")
	require.ErrorContains(t, err, "DATABASE_URL")
}

func TestFolderThatTheAccountCannotReach(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pg")
	require.NoError(t, os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o700))
	c := start(t, Options{Dir: dir, Throwaway: true})
	require.NoError(t, ping(t.Context(), c.URL("")))
	if c.who == nil {
		require.Equal(t, dir, c.dir, "an ordinary user stays where it asked")
		return
	}
	require.NotEqual(t, dir, c.dir)
	target, err := os.Readlink(dir)
	require.NoError(t, err)
	require.Equal(t, c.dir, target, "the asked folder leads to the real one")
	require.NoError(t, c.Stop())
	require.NoDirExists(t, target, "a throw-away cluster leaves no folder elsewhere")
}

func TestStandInsThatNothingLeadsToAreSwept(t *testing.T) {
	base, alive := t.TempDir(), t.TempDir()
	for name, origin := range map[string]string{"ceralacca-used": alive, "ceralacca-lost": filepath.Join(alive, "gone"), "ceralacca-busy": filepath.Join(alive, "gone")} {
		require.NoError(t, os.MkdirAll(filepath.Join(base, name, "data"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(base, name, originFile), []byte(origin), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(base, "ceralacca-foreign"), 0o700))
	busy, err := devenv.TryLock(filepath.Join(base, "ceralacca-busy", "lock"), true)
	require.NoError(t, err)
	defer busy.Unlock()
	sweep(base, nil)
	require.NoDirExists(t, filepath.Join(base, "ceralacca-lost"))
	for _, name := range []string{"ceralacca-used", "ceralacca-busy", "ceralacca-foreign"} {
		require.DirExists(t, filepath.Join(base, name))
	}
}

func TestStandInOfATemporaryFolderIsTemporary(t *testing.T) {
	temporary := filepath.Dir(openDir(t))
	t.Setenv("TMPDIR", temporary)
	who := &child.User{UID: 65534, GID: 65534}
	require.Equal(t, temporary, standIns(filepath.Join(temporary, "test", "pg"), who))
	require.Equal(t, "/var/tmp", standIns("/srv/checkout/.cache/pg", who), "what shall last lies elsewhere")
	require.NoError(t, os.Chmod(temporary, 0o700))
	require.Equal(t, "/var/tmp", standIns(filepath.Join(temporary, "test", "pg"), who), "the account cannot get there")
	require.Equal(t, temporary, standIns(filepath.Join(temporary, "pg"), nil), "whoever runs it as themselves can")
}

func TestFolderPreparedBySomeoneElseIsRefused(t *testing.T) {
	dir := openDir(t)
	require.NoError(t, os.Symlink(t.TempDir(), dir))
	require.ErrorContains(t, own(dir, nil), "not a folder of ours")
}

// TestAsOrdinaryUser runs the life of a cluster as an unprivileged account. Root
// becomes nobody for it; anyone else already is ordinary.
func TestAsOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		who, err := account()
		require.NoError(t, err)
		require.Nil(t, who, "an ordinary user drops to nobody else")
		return
	}
	dir := filepath.Dir(openDir(t))
	nobody := 65534
	require.NoError(t, os.Chown(dir, nobody, nobody))
	raw, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	program := filepath.Join(dir, "postgres.test")
	require.NoError(t, os.WriteFile(program, raw, 0o755))
	require.NoError(t, os.Chmod(program, 0o755))
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^(TestCommittedRows|TestServerEnds|TestRunningOrphan|TestFolderThat)", "-test.count=1", "-test.v")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(nobody), Gid: uint32(nobody)}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, 4, strings.Count(string(out), "--- PASS: "), "%s", out)
}

func TestSharedServerLivesAsLongAsItsUsers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(filepath.Dir(openDir(t)), "shared")
	first, firstIn, address := startHelper(t, "shared", dir)
	second, _, other := startHelper(t, "shared", dir)
	require.Equal(t, address, other, "two processes, one server")
	exe(t, address, "CREATE TABLE kept (id int)")

	require.NoError(t, firstIn.Close()) // one leaves in order
	require.NoError(t, first.Wait())
	time.Sleep(linger + time.Second)
	require.Equal(t, 0, count(t, address), "the server stays for the second")

	keeper := keeperOf(t, dir)
	require.NoError(t, second.Process.Kill()) // the last one is killed
	data := filepath.Join(dir, "cluster", "data")
	gone(t, data, linger+10*time.Second)
	require.Eventually(t, func() bool { return !child.Runs(keeper, keeperProgram(t)) }, 10*time.Second, 50*time.Millisecond)
	require.NoDirExists(t, data)

	_, _, again := startHelper(t, "shared", dir)
	require.NotEqual(t, address, again)
	require.NoError(t, syscall.Kill(keeperOf(t, dir), syscall.SIGKILL))
	gone(t, data, 10*time.Second)
}

func keeperOf(t *testing.T, dir string) int {
	t.Helper()
	raw, err := os.ReadFile(shared{dir: dir}.state())
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(raw), `"keeper_pid":`)
	require.True(t, ok, "%s", raw)
	pid, err := strconv.Atoi(strings.TrimRight(rest, "}\n "))
	require.NoError(t, err)
	return pid
}

func keeperProgram(t *testing.T) string {
	t.Helper()
	root, err := devenv.Root()
	require.NoError(t, err)
	program, err := devenv.Cache(root, "bin", keeperTool.Name)
	require.NoError(t, err)
	return program
}

func TestSharedUsesTheServerItIsGiven(t *testing.T) {
	t.Setenv(SharedVariable, "postgres://given")
	address, release, err := Shared(t.Context())
	require.NoError(t, err)
	release()
	require.Equal(t, "postgres://given", address)
}

func TestDatabaseURL(t *testing.T) {
	c := start(t, Options{Dir: openDir(t), Throwaway: true})
	t.Setenv("DATABASE_URL", c.URL(""))
	given, err := Start(t.Context(), Options{})
	require.NoError(t, err)
	require.True(t, given.External())
	require.Zero(t, given.PID())
	require.NoError(t, given.EnsureDatabase(t.Context(), "elsewhere"))
	require.NoError(t, ping(t.Context(), given.URL("elsewhere")))
	require.ErrorContains(t, given.Restart(t.Context()), "not ours")
	require.ErrorContains(t, given.Kill(), "not ours")
	require.NoError(t, given.Stop())
	require.NoError(t, ping(t.Context(), c.URL("")), "stopping an external server leaves it alone")

	t.Setenv("DATABASE_URL", "mysql://somewhere")
	_, err = Start(t.Context(), Options{})
	require.ErrorContains(t, err, "postgres://user")

	require.NoError(t, c.Stop())
	t.Setenv("DATABASE_URL", c.URL(""))
	_, err = Start(t.Context(), Options{})
	require.ErrorContains(t, err, "unset it to use a private one")
}

func TestParseMajor(t *testing.T) {
	for text, want := range map[string]int{
		"postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n": 15,
		"postgres (PostgreSQL) 17rc1\n":                          17,
		"postgres (PostgreSQL) 9.6.24\n":                         9,
		"postgres (PostgreSQL) 18":                               18,
	} {
		got, err := parseMajor(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	_, err := parseMajor("mariadbd 11")
	require.Error(t, err)
}
