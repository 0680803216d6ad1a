package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/vault/helper/namespace"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/vault"
)

// lockWait is how long a start waits for the previous server on its folder to end.
const lockWait = 10 * time.Second

// secrets open the storage. Keeping them beside it is what makes this server unfit
// for anything but development.
type secrets struct {
	UnsealKey []byte `json:"unseal_key"`
	RootToken string `json:"root_token"`
}

// keyFile is the folder of a server that survives restarts; with dir empty nothing
// is kept.
type keyFile struct{ dir string }

func (k *keyFile) path() string   { return filepath.Join(k.dir, "unseal.json") }
func (k *keyFile) marker() string { return filepath.Join(k.dir, "initialising") }

// take locks the folder and clears away an initialisation that was cut short.
func (k *keyFile) take(ctx context.Context) (*os.File, error) {
	err := os.MkdirAll(k.dir, 0o700)
	if err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(k.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(lockWait)
	for {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("another server is using %s: stop it first, or give another -dir", k.dir), lock.Close())
		}
		time.Sleep(20 * time.Millisecond)
	}
	_, err = os.Stat(k.marker())
	if errors.Is(err, os.ErrNotExist) {
		return lock, nil
	}
	// The key of that storage was never written down: nothing in it can be read again.
	err = errors.Join(os.RemoveAll(filepath.Join(k.dir, "storage")), os.RemoveAll(k.path()), os.Remove(k.marker()))
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

func (k *keyFile) load() (secrets, error) {
	var s secrets
	raw, err := os.ReadFile(k.path())
	if err != nil {
		return s, fmt.Errorf("the storage in %s is initialised but its key cannot be read, delete the folder to start afresh: %w", k.dir, err)
	}
	err = json.Unmarshal(raw, &s)
	if err != nil {
		return s, fmt.Errorf("%s: %w", k.path(), err)
	}
	return s, nil
}

// initialise runs init and keeps its secrets; a crash in between leaves the marker.
func (k *keyFile) initialise(init func() (secrets, error)) (secrets, error) {
	if k.dir == "" {
		return init()
	}
	err := os.WriteFile(k.marker(), nil, 0o600)
	if err != nil {
		return secrets{}, err
	}
	s, err := init()
	if err != nil {
		return s, err
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return s, err
	}
	err = os.WriteFile(k.path(), append(raw, '\n'), 0o600)
	if err != nil {
		return s, err
	}
	return s, os.Remove(k.marker())
}

// unseal initialises the core if its storage is new, opens it and returns the root
// token, which is wanted if that is not empty.
func unseal(core *vault.Core, keys *keyFile, wanted string) (string, error) {
	ctx := namespace.ContextWithNamespace(context.Background(), namespace.RootNamespace)
	done, err := core.Initialized(ctx)
	if err != nil {
		return "", fmt.Errorf("initialised: %w", err)
	}
	var s secrets
	if done {
		s, err = keys.load()
	} else {
		s, err = keys.initialise(func() (secrets, error) { return initialise(ctx, core) })
	}
	if err != nil {
		return "", err
	}
	open, err := core.Unseal(append([]byte(nil), s.UnsealKey...)) // the core wipes its argument
	if err != nil {
		return "", fmt.Errorf("unseal: %w", err)
	}
	if !open {
		return "", errors.New("unseal: the key was taken but the core stays sealed")
	}
	if wanted == "" || wanted == s.RootToken {
		return s.RootToken, nil
	}
	return wanted, ensureRoot(ctx, core, s.RootToken, wanted)
}

func initialise(ctx context.Context, core *vault.Core) (secrets, error) {
	result, err := core.Initialize(ctx, &vault.InitParams{
		BarrierConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1, Name: "shamir"},
	})
	if err != nil {
		return secrets{}, fmt.Errorf("initialise: %w", err)
	}
	return secrets{UnsealKey: result.SecretShares[0], RootToken: result.RootToken}, nil
}

// ensureRoot makes a root token of the wanted value unless an earlier start did.
func ensureRoot(ctx context.Context, core *vault.Core, root, wanted string) error {
	_, err := request(ctx, core, root, logical.UpdateOperation, "auth/token/lookup", map[string]any{"token": wanted})
	if err == nil {
		return nil
	}
	_, err = request(ctx, core, root, logical.UpdateOperation, "auth/token/create", map[string]any{
		"id": wanted, "policies": []string{"root"}, "no_parent": true, "no_default_policy": true,
	})
	if err != nil {
		return fmt.Errorf("root token: %w", err)
	}
	return nil
}

// enableAudit turns the file audit device on, moving it if it was elsewhere.
func enableAudit(core *vault.Core, root, path string) error {
	ctx := namespace.ContextWithNamespace(context.Background(), namespace.RootNamespace)
	have, err := request(ctx, core, root, logical.ReadOperation, "sys/audit", nil)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	device, ok := have.Data["file/"].(map[string]any)
	if ok {
		settings, _ := device["options"].(map[string]string)
		if settings["file_path"] == path {
			return nil
		}
		_, err = request(ctx, core, root, logical.DeleteOperation, "sys/audit/file", nil)
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	_, err = request(ctx, core, root, logical.UpdateOperation, "sys/audit/file", map[string]any{
		"type": "file", "options": map[string]string{"file_path": path},
	})
	if err != nil {
		return fmt.Errorf("audit to %s: %w", path, err)
	}
	return nil
}

func request(ctx context.Context, core *vault.Core, token string, op logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	response, err := core.HandleRequest(ctx, &logical.Request{
		ID: "vaultdev", Operation: op, ClientToken: token, Path: path, Data: data,
	})
	if err != nil {
		return nil, err
	}
	if response != nil && response.IsError() {
		return nil, response.Error()
	}
	return response, nil
}
