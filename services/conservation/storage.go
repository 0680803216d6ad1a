package conservation

import (
	"time"

	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/run"
)

// StorageConfig is where the archive keeps its own copies. Without it documents rest on the platform's store
// alone, which GetStorage says.
type StorageConfig struct {
	// Primary replica. It is read first.
	Primary ReplicaConfig `yaml:"primary"`
	// Second replica, best at another provider and in another account.
	Second ReplicaConfig `yaml:"second"`
	// DegradeAfter is how long one replica may be away before documents are taken in with one copy, openly.
	DegradeAfter time.Duration `yaml:"degrade_after"`
	// Probe is how often replicas are looked at, and how often what one of them lacks is copied.
	Probe time.Duration `yaml:"probe"`
	// MarkEvery is how often the replicas are told how far the database has come, when something was added: what was added after the last
	// mark is what a database that is put back from a backup can forget without being found out.
	MarkEvery time.Duration `yaml:"mark_every"`
}

// ReplicaConfig is a folder or a bucket: exactly one of the two.
type ReplicaConfig struct {
	// FS is a folder on a disk of its own.
	FS FSReplicaConfig `yaml:"fs"`
	// S3 is a bucket with Object Lock.
	S3 S3ReplicaConfig `yaml:"s3"`
}

// FSReplicaConfig is a folder.
type FSReplicaConfig struct {
	// Dir must exist: it is not made, since a disk that is not mounted would look like an empty one.
	Dir string `yaml:"dir"`
}

// S3ReplicaConfig is a bucket of an S3-compatible store.
type S3ReplicaConfig struct {
	// Endpoint is host:port, without scheme.
	Endpoint string `yaml:"endpoint"`
	// Bucket must exist, with versioning and Object Lock.
	Bucket string `yaml:"bucket"`
	// Prefix of every key, for example archive/.
	Prefix string `yaml:"prefix"`
	// Region; empty: asked from the store.
	Region string `yaml:"region"`
	// AccessKeyFile holds the access key id, of a credential that may put, get and list, and nothing else.
	AccessKeyFile string `yaml:"access_key_file"`
	// SecretKeyFile holds the secret access key.
	SecretKeyFile string `yaml:"secret_key_file"`
	// Insecure uses plain HTTP: for a store on the same machine only.
	Insecure bool `yaml:"insecure"`
}

func (c ReplicaConfig) set() bool { return c.FS.Dir != "" || c.S3.Bucket != "" }

func (c StorageConfig) on() bool { return c.Primary.set() || c.Second.set() }

func (c StorageConfig) check(bad func(when bool, path, format string, a ...any)) {
	for name, r := range map[string]ReplicaConfig{"storage.primary": c.Primary, "storage.second": c.Second} {
		bad(c.on() && !r.set(), name, "is missing: custody rests on two replicas; set fs.dir or s3.bucket, or neither replica")
		bad(r.FS.Dir != "" && r.S3.Bucket != "", name, "fs.dir and s3.bucket are both set: keep one")
		bad(r.S3.Bucket != "" && (r.S3.Endpoint == "" || r.S3.AccessKeyFile == "" || r.S3.SecretKeyFile == ""), name+".s3", "endpoint, access_key_file and secret_key_file are needed")
	}
	bad(c.Primary.FS.Dir != "" && c.Primary.FS.Dir == c.Second.FS.Dir, "storage.second.fs.dir", "is the folder of the primary replica: one disk is one copy")
	bad(c.DegradeAfter <= 0, "storage.degrade_after", "must be more than 0s")
	bad(c.Probe <= 0, "storage.probe", "must be more than 0s")
	bad(c.MarkEvery <= 0, "storage.mark_every", "must be more than 0s")
}

func (c ReplicaConfig) open(path string, now func() time.Time) (vault.Vault, error) {
	if c.FS.Dir != "" {
		f, err := vault.OpenFolder(c.FS.Dir, now)
		if err != nil {
			return nil, run.BadField(path+".fs.dir", "%v", err)
		}
		return f, nil
	}
	access, err := run.ReadSecret(c.S3.AccessKeyFile)
	if err != nil {
		return nil, run.BadField(path+".s3.access_key_file", "%v", err)
	}
	secret, err := run.ReadSecret(c.S3.SecretKeyFile)
	if err != nil {
		return nil, run.BadField(path+".s3.secret_key_file", "%v", err)
	}
	b, err := vault.OpenBucket(vault.BucketConfig{
		Endpoint: c.S3.Endpoint, Bucket: c.S3.Bucket, Prefix: c.S3.Prefix, Region: c.S3.Region,
		AccessKey: access, SecretKey: secret, Insecure: c.S3.Insecure,
	})
	if err != nil {
		return nil, run.BadField(path+".s3", "%v", err)
	}
	return b, nil
}
