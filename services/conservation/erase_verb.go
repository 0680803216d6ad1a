package conservation

import (
	"context"
	"fmt"

	"ceralacca.dev/services/conservation/eraser"
	"ceralacca.dev/services/internal/run"
)

// eraseVerb is ceralaccad conservation erase.
var eraseVerb = run.Verb{
	Name:  "erase",
	Short: "Destroy what disposals (scarto) released, in every replica and in the platform's store",
	Long: `Destroy what disposals (scarto) released, in every replica and in the platform's store.

It runs once and ends: by hand, or by a timer. It takes the same configuration file as the service, but for the credentials of
conservation.storage and of blob, which here are those that may delete; the service's may not. Folders need a user who may write to
them. What S3 Object Lock keeps in compliance mode nobody removes before its time: the disposal says so and waits.

It destroys packages of disposals in state RELEASED alone: authorised by the producer, released by two persons, with nothing that
holds them, at the end of their term. What it has begun it goes on with after any crash. The service then takes from its rows what
tells of anybody, and asks the other services what they have of the documents in the platform's store and what of that they still
need. What nobody needs goes in the next run of this command, and the service makes the signed report: what was erased, by hash, and
what other documents hold. While it says that copies are being asked for, run it again.

Distributions (PdD) that have been ready for longer than conservation.distributions.keep expire: they can be made again. Their bytes
go in a run an hour later, as does what was stored on the way to distributions, unsigned or unstamped.

Exit code 1 when something could not be destroyed now.`,
	Run: erase,
}

func erase(ctx context.Context, in run.Invocation) error {
	cfg := DefaultConfig()
	err := in.Config(&cfg)
	if err != nil {
		return err
	}
	if !cfg.Storage.on() {
		return run.BadField("storage", "is missing: the eraser works on the archive's replicas")
	}
	e := &eraser.Eraser{Log: in.Log, Now: in.Now, KeepDistributions: cfg.Distributions.Keep}
	for path, r := range map[string]ReplicaConfig{"storage.primary": cfg.Storage.Primary, "storage.second": cfg.Storage.Second} {
		store, err := r.destroyer(path)
		if err != nil {
			return err
		}
		e.Replicas = append(e.Replicas, store)
	}
	b := in.File.Blob
	platform := ReplicaConfig{S3: S3ReplicaConfig{
		Endpoint: b.S3.Endpoint, Bucket: b.S3.Bucket, Prefix: b.S3.Prefix + "tenants/", Region: b.S3.Region, AccessKeyFile: b.S3.AccessKeyFile, SecretKeyFile: b.S3.SecretKeyFile, Insecure: b.S3.Insecure,
	}}
	if b.FS.Dir != "" {
		e.Blobs = eraser.BlobFolder{Dir: b.FS.Dir}
	} else if e.Blobs, err = platform.bucket("blob"); err != nil {
		return err
	}
	e.DB, err = in.DB(ctx)
	if err != nil {
		return err
	}
	defer e.DB.Close()
	done, err := e.Run(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(in.Out, "%d packages destroyed, %d wait; %d copies erased, those of %d packages are being asked for\n", done.Erased, done.Waiting, done.Copies, done.Asking)
	if done.Expired > 0 {
		fmt.Fprintf(in.Out, "%d distributions expired; their bytes go in a run an hour from now or later\n", done.Expired)
	}
	if done.Spare > 0 {
		fmt.Fprintf(in.Out, "%d files erased that were expired distributions or stored on the way to one\n", done.Spare)
	}
	if done.Late > 0 {
		fmt.Fprintf(in.Out, "%d objects destroyed that were found to hold documents of packages destroyed before\n", done.Late)
	}
	if done.Kept > 0 {
		err = fmt.Errorf("%d files that were expired distributions or stored on the way to one could not be erased now: the log says why", done.Kept)
	}
	if done.Waiting > 0 {
		return fmt.Errorf("%d packages could not be destroyed now: ceralacca conserve scarto get says why", done.Waiting)
	}
	return err
}

// destroyer is the replica with the right to delete.
func (c ReplicaConfig) destroyer(path string) (eraser.Replica, error) {
	if c.FS.Dir != "" {
		return eraser.Folder{Dir: c.FS.Dir}, nil
	}
	return c.bucket(path)
}

func (c ReplicaConfig) bucket(path string) (*eraser.Bucket, error) {
	access, err := run.ReadSecret(c.S3.AccessKeyFile)
	if err != nil {
		return nil, run.BadField(path+".s3.access_key_file", "%v", err)
	}
	secret, err := run.ReadSecret(c.S3.SecretKeyFile)
	if err != nil {
		return nil, run.BadField(path+".s3.secret_key_file", "%v", err)
	}
	return eraser.OpenBucket(eraser.BucketConfig{
		Endpoint: c.S3.Endpoint, Bucket: c.S3.Bucket, Prefix: c.S3.Prefix, Region: c.S3.Region, AccessKey: access, SecretKey: secret, Insecure: c.S3.Insecure,
	})
}
