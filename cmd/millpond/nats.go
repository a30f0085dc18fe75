package main

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/push"
)

// natsFlags say whether, and how, publications go over NATS.
type natsFlags struct {
	NATSEmbedded    bool          `name:"nats-embedded" help:"Run a NATS server with JetStream in this process, on --data-dir: histories and positions outlive it."`
	NATSStoreBytes  int64         `name:"nats-store-bytes" help:"Bytes of histories on disk; of more, the oldest publications go." default:"4294967296"`
	NATSReserve     int64         `name:"nats-reserve-bytes" help:"Bytes that must be free on the disk of the embedded server's data; with less, publications with history are refused." default:"67108864"`
	NATSSync        time.Duration `name:"nats-sync-interval" help:"Time between two fsyncs of the embedded server's, within which a loss of power loses publications." default:"5s"`
	NATSSyncAlways  bool          `name:"nats-sync-always" help:"An fsync before each acknowledgement."`
	ClusterName     string        `help:"Name of the cluster that the embedded servers of several hosts form." placeholder:"NAME"`
	ClusterListen   string        `help:"Address for the cluster's other servers; default 127.0.0.1:6222. Another than loopback needs credentials or TLS." placeholder:"ADDR"`
	ClusterAdvert   string        `name:"cluster-advertise" help:"HOST:PORT by which the others reach --cluster-listen, if it is another." placeholder:"ADDR"`
	ClusterRoutes   []string      `help:"HOST:PORT of other servers of the cluster; its own may be among them." placeholder:"ADDR"`
	ClusterSecret   string        `name:"cluster-credentials-file" help:"File with USER:PASSWORD, the same on all servers of the cluster." type:"existingfile" placeholder:"FILE"`
	ClusterTLSCA    string        `name:"cluster-tls-ca" help:"File with the authorities of the cluster's certificates, in PEM." type:"existingfile" placeholder:"FILE"`
	ClusterTLSCert  string        `name:"cluster-tls-cert" help:"File with this server's certificate for the cluster, in PEM." type:"existingfile" placeholder:"FILE"`
	ClusterTLSKey   string        `name:"cluster-tls-key" help:"File with its key." type:"existingfile" placeholder:"FILE"`
	Replicas        int           `help:"Servers that have each publication: 1, 3 or 5; default 3 with a --cluster-name, else 1."`
	NATSURL         []string      `name:"nats-url" help:"Server of an existing NATS cluster with JetStream, such as nats://HOST:4222; may be repeated." placeholder:"URL"`
	NATSUser        string        `name:"nats-user" help:"User there." placeholder:"NAME"`
	NATSPassword    string        `name:"nats-password-file" help:"File with the user's password." type:"existingfile" placeholder:"FILE"`
	NATSToken       string        `name:"nats-token-file" help:"File with a token." type:"existingfile" placeholder:"FILE"`
	NATSCredentials string        `name:"nats-credentials-file" help:"File with a user's JWT and key (.creds)." type:"existingfile" placeholder:"FILE"`
	NATSNKey        string        `name:"nats-nkey-file" help:"File with the seed of an NKey." type:"existingfile" placeholder:"FILE"`
	NATSTLSCA       string        `name:"nats-tls-ca" help:"File with the authorities of the servers' certificates, in PEM; default: the system's." type:"existingfile" placeholder:"FILE"`
	NATSTLSCert     string        `name:"nats-tls-cert" help:"File with a certificate for the servers, in PEM." type:"existingfile" placeholder:"FILE"`
	NATSTLSKey      string        `name:"nats-tls-key" help:"File with its key." type:"existingfile" placeholder:"FILE"`
	NATSPrefix      string        `name:"nats-prefix" help:"Beginning of all subjects and streams; installations that share servers have different ones." default:"millpond"`
	NATSGroups      int           `name:"nats-groups" help:"Streams among which channels with history are spread; fixed when they are made." default:"32"`
	NATSPartitions  int           `name:"nats-partitions" help:"Subjects among which channels without history are spread; fixed like --nats-groups." default:"4096"`
	NATSMessages    int           `name:"nats-channel-messages" help:"Publications of a channel in the log, if its history is smaller: so far a node may fall behind without a loss." default:"1000"`
	NATSPublish     time.Duration `name:"nats-publish-timeout" help:"Time that the log has to acknowledge a publication." default:"5s"`
	NATSPending     int           `name:"nats-max-pending" help:"Publications that wait for the log; and those in channels without history that are known to be noted there and not sent." default:"16384"`
	NATSIdle        time.Duration `name:"nats-idle-timeout" help:"Time for which a group or partition without subscribers is still read." default:"60s"`
	NATSResetRate   int           `name:"nats-reset-rate" help:"Channels in a second of which the subscribers are told to begin anew, when something may be missing." default:"5000"`
	NATSCatchUp     int           `name:"nats-catch-up-bytes" help:"Bytes of a group that a node holds that was away, until it knows whether it missed too much." default:"67108864"`
	NATSRecalls     int           `name:"nats-recalls" help:"Requests for a past that memory has let go that wait for the log; to more it is said to be missing." default:"32"`
	NATSRecallBytes int           `name:"nats-recall-bytes" help:"Bytes that are read from the log for one of them; if there is more, it is said to be missing." default:"2097152"`
	NATSFetch       int           `name:"nats-fetch-bytes" help:"Bytes of publications that wait in this node, for each group, to be handed over." default:"4194304"`
	NATSConnect     time.Duration `name:"nats-connect-timeout" help:"Time for one attempt to connect." default:"5s"`
	NATSReconnect   time.Duration `name:"nats-reconnect-wait" help:"Time after the first attempt in vain; it doubles with each, and chance takes up to a half off." default:"250ms"`
	NATSMaxWait     time.Duration `name:"nats-max-reconnect-wait" help:"Time that it grows to." default:"5s"`
	NATSPing        time.Duration `name:"nats-ping-interval" help:"Time between two pings; who leaves two unanswered is gone." default:"5s"`
	NATSStart       time.Duration `name:"nats-start-timeout" help:"Time that the start waits for JetStream before it goes on without." default:"15s"`
}

// nats maps the flags.
func (c *natsFlags) nats() (push.NATS, error) {
	out := push.NATS{
		Embedded: c.NATSEmbedded,
		Server: push.NATSServer{
			StoreBytes: c.NATSStoreBytes, ReserveBytes: c.NATSReserve, SyncInterval: c.NATSSync, SyncAlways: c.NATSSyncAlways,
			ClusterName: c.ClusterName, ClusterListen: c.ClusterListen, ClusterAdvertise: c.ClusterAdvert, ClusterRoutes: c.ClusterRoutes,
		},
		Link: push.NATSLink{
			URLs: c.NATSURL, User: c.NATSUser, CredentialsFile: c.NATSCredentials, NKeyFile: c.NATSNKey, Prefix: c.NATSPrefix,
			TLS:            push.NATSTLS{CA: c.NATSTLSCA, Certificate: c.NATSTLSCert, Key: c.NATSTLSKey},
			ConnectTimeout: c.NATSConnect, ReconnectWait: c.NATSReconnect, MaxReconnectWait: c.NATSMaxWait, PingInterval: c.NATSPing,
		},
		Broker: push.NATSBroker{
			Groups: c.NATSGroups, Partitions: c.NATSPartitions, Replicas: c.Replicas, PublishTimeout: c.NATSPublish, MaxPending: c.NATSPending,
			ChannelMessages: c.NATSMessages, IdleTimeout: c.NATSIdle, ResetRate: c.NATSResetRate, CatchUpBytes: c.NATSCatchUp, Recalls: c.NATSRecalls, RecallBytes: c.NATSRecallBytes, FetchBytes: c.NATSFetch, StartTimeout: c.NATSStart,
		},
	}
	var errs []error
	for _, secret := range []struct {
		flag, path string
		to         *string
	}{{"nats-password-file", c.NATSPassword, &out.Link.Password}, {"nats-token-file", c.NATSToken, &out.Link.Token}} {
		b, err := readSecret(secret.path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", secret.flag, err))
		}
		*secret.to = string(b)
	}
	if b, err := readSecret(c.ClusterSecret); err != nil {
		errs = append(errs, fmt.Errorf("cluster-credentials-file: %w", err))
	} else if c.ClusterSecret != "" {
		user, password, ok := bytes.Cut(b, []byte(":"))
		if !ok || len(user) == 0 || len(password) == 0 {
			errs = append(errs, errors.New("cluster-credentials-file: it is not USER:PASSWORD"))
		}
		out.Server.ClusterUser, out.Server.ClusterPassword = string(user), string(password)
	}
	files := push.NATSTLS{CA: c.ClusterTLSCA, Certificate: c.ClusterTLSCert, Key: c.ClusterTLSKey}
	if files.Enabled() {
		config, err := files.Load()
		if err == nil && (files.CA == "" || files.Certificate == "") {
			err = errors.New("give all of cluster-tls-ca, -cert and -key: each side asks for the other's certificate")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cluster-tls: %w", err))
		}
		out.Server.ClusterTLS = config
	}
	return out, errors.Join(errs...)
}
