package devenv

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Peer is an independent program that tests compare the platform with.
type Peer struct {
	Command string // what must be in PATH
	File    string // or, of a library, what must be there
	Package string // the Debian package that brings it
	Service string // the service that the package would start for the whole machine: it is kept from starting
}

// The doors of Dovecot. Tests run it themselves, on loopback; the machine's own is not to be opened by them.
var (
	DovecotIMAP = Peer{File: "/usr/lib/dovecot/imap", Package: "dovecot-imapd", Service: "dovecot"}
	DovecotPOP3 = Peer{File: "/usr/lib/dovecot/pop3", Package: "dovecot-pop3d", Service: "dovecot"}
	DovecotSend = Peer{File: "/usr/lib/dovecot/submission", Package: "dovecot-submissiond", Service: "dovecot"}
)

// Peers are the programs that the project's tests call.
var Peers = []Peer{
	{Command: "openssl", Package: "openssl"},
	{Command: "xmlsec1", Package: "xmlsec1"},
	{Command: "xmllint", Package: "libxml2-utils"},
	{Command: "busybox", Package: "busybox"}, // a shell with commands that have no options of GNU's
	{Command: "pdfsig", Package: "poppler-utils"},
	{Command: "qpdf", Package: "qpdf"},
	// BouncyCastle, and the compiler that runs a source file: without a screen 126 MB to fetch, 275 MB on disk.
	{Command: "javac", Package: "default-jdk-headless"},
	{File: "/usr/share/java/bcpkix.jar", Package: "libbcpkix-java"},
	{File: "/usr/share/java/pdfbox2.jar", Package: "libpdfbox2-java"},
	{Command: "certutil", Package: "libnss3-tools"}, // for Poppler to sign
	{Command: "sftp", Package: "openssh-client"},
	// A SOAP client that is made from WSDLs, and mail programs of others.
	{Command: "python3", Package: "python3"},
	{File: "/usr/lib/python3/dist-packages/zeep/__init__.py", Package: "python3-zeep"},
	{Command: "swaks", Package: "swaks"},
	{File: "/usr/share/doc/libnet-ssleay-perl", Package: "libnet-ssleay-perl"}, // swaks speaks TLS with it
	{Command: "msmtp", Package: "msmtp"},
	{Command: "mbsync", Package: "isync"},
	{Command: "mutt", Package: "mutt"},
	{Command: "script", Package: "bsdutils"}, // a terminal for mutt
	{Command: "curl", Package: "curl"},
	DovecotIMAP, DovecotPOP3, DovecotSend,
}

// RequirePeers makes sure that each peer can be run. Missing ones are installed
// with apt-get where that is there and the user may; otherwise the error carries
// the command that installs them.
func RequirePeers(ctx context.Context, w io.Writer, peers ...Peer) error {
	missing := missingPackages(peers)
	if len(missing) == 0 {
		return nil
	}
	err := quietly(ctx, services(peers, missing), func() error { return Install(ctx, w, missing...) })
	if err != nil {
		return err
	}
	if still := missingPackages(peers); len(still) > 0 {
		return fmt.Errorf("devenv: after installing %s their files or programs (in PATH=%s) are still not there", strings.Join(still, ", "), os.Getenv("PATH"))
	}
	return nil
}

func (p Peer) look() error {
	if p.File != "" {
		_, err := os.Stat(p.File)
		return err
	}
	_, err := exec.LookPath(p.Command)
	return err
}

func missingPackages(peers []Peer) []string {
	var missing []string
	for _, p := range peers {
		if err := p.look(); err != nil && !slices.Contains(missing, p.Package) {
			missing = append(missing, p.Package)
		}
	}
	return missing
}

// Install installs Debian packages, refreshing the package lists only if the
// first attempt does not find them.
func Install(ctx context.Context, w io.Writer, packages ...string) error {
	apt, err := aptGet(ctx)
	if err != nil {
		return fmt.Errorf("%w: install %s, on Debian with: sudo apt-get install -y %s", err, strings.Join(packages, ", "), strings.Join(packages, " "))
	}
	step := Begin(w, "installing "+strings.Join(packages, ", "))
	err = installSteps(ctx, step, apt, packages)
	step.End(err)
	if err != nil {
		return fmt.Errorf("devenv: %w: try by hand: sudo apt-get install -y %s", err, strings.Join(packages, " "))
	}
	return nil
}

func installSteps(ctx context.Context, step *Step, apt, packages []string) error {
	install := slices.Concat(apt, []string{"install", "-y", "--no-install-recommends"}, packages)
	err := runShown(ctx, step, install)
	if err == nil {
		return nil
	}
	err = runShown(ctx, step, slices.Concat(apt, []string{"update"}))
	if err != nil {
		return err
	}
	return runShown(ctx, step, install)
}

// aptGet returns the words that run apt-get with the right to install, or why not.
func aptGet(ctx context.Context) ([]string, error) {
	sudo, err := asRoot(ctx)
	if err != nil {
		return nil, err
	}
	path, err := exec.LookPath("apt-get")
	if err != nil {
		return nil, fmt.Errorf("devenv: a program is missing and there is no apt-get here to install it")
	}
	return append(sudo, path, "-o", "DPkg::Lock::Timeout=120", "-q"), nil
}

// asRoot returns the words to put before a command that needs root: none for root
// itself, env through sudo where sudo asks no password.
func asRoot(ctx context.Context) ([]string, error) {
	quiet := []string{"env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	if os.Geteuid() == 0 {
		return quiet, nil
	}
	sudo, err := exec.LookPath("sudo")
	if err != nil {
		return nil, fmt.Errorf("devenv: a program is missing and this user may not install it")
	}
	err = exec.CommandContext(ctx, sudo, "-n", "true").Run()
	if err != nil {
		return nil, fmt.Errorf("devenv: a program is missing and sudo asks for a password")
	}
	return append([]string{sudo, "-n"}, quiet...), nil
}

// AsRoot runs a command with root's rights where the user has them without a
// password, feeding it input.
func AsRoot(ctx context.Context, input string, words ...string) error {
	before, err := asRoot(ctx)
	if err != nil {
		return err
	}
	words = append(before, words...)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("devenv: %s: %w: %s", strings.Join(words, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// runShown runs words, shows each output line as the step's detail and returns
// the last lines when the command fails.
func runShown(ctx context.Context, step *Step, words []string) error {
	return runShownIn(ctx, step, "", nil, words, func(line string) string { return line })
}

// runShownIn is runShown in a folder, with more environment, and with a function
// that turns an output line into what is shown ("" keeps the earlier detail).
func runShownIn(ctx context.Context, step *Step, dir string, env, words []string, show func(string) string) error {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("%s: %w", words[0], err)
	}
	cmd.Stderr = cmd.Stdout
	err = cmd.Start()
	if err != nil {
		return fmt.Errorf("%s: %w", words[0], err)
	}
	var last []string
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		last = append(last, line)
		if len(last) > 12 {
			last = last[1:]
		}
		if text := show(line); text != "" {
			step.Detail("%s", text)
		}
	}
	err = cmd.Wait()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, strings.Join(last, "\n"))
	}
	return nil
}
