package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/push"
)

// queueFlags say whether publications come from a queue, too.
type queueFlags struct {
	QueueStream      string        `help:"Stream of JetStream from which publications come, too, with explicit acknowledgement." placeholder:"NAME"`
	QueueURL         []string      `name:"queue-url" help:"Server of NATS that has it; may be repeated; default: those of --nats-url." placeholder:"URL"`
	QueueUser        string        `help:"User there." placeholder:"NAME"`
	QueuePassword    string        `name:"queue-password-file" help:"File with the user's password." type:"existingfile" placeholder:"FILE"`
	QueueToken       string        `name:"queue-token-file" help:"File with a token." type:"existingfile" placeholder:"FILE"`
	QueueCredentials string        `name:"queue-credentials-file" help:"File with a user's JWT and key (.creds)." type:"existingfile" placeholder:"FILE"`
	QueueNKey        string        `name:"queue-nkey-file" help:"File with the seed of an NKey." type:"existingfile" placeholder:"FILE"`
	QueueTLSCA       string        `name:"queue-tls-ca" help:"File with the authorities of the servers' certificates, in PEM; default: the system's." type:"existingfile" placeholder:"FILE"`
	QueueTLSCert     string        `name:"queue-tls-cert" help:"File with a certificate for the servers, in PEM." type:"existingfile" placeholder:"FILE"`
	QueueTLSKey      string        `name:"queue-tls-key" help:"File with its key." type:"existingfile" placeholder:"FILE"`
	QueueConsumer    string        `help:"Durable consumer that all nodes share; default: --nats-prefix." placeholder:"NAME"`
	QueueSubject     string        `help:"Pattern of the subjects that are meant; default: all of the stream's." placeholder:"PATTERN"`
	QueueStart       string        `help:"Where to begin if a stream that keeps what is done has messages and no such consumer: all, new, a sequence or a time; default: nothing is read until this is given." placeholder:"WHERE"`
	QueueDeadLetter  string        `help:"Subject, in another stream, for messages that are refused for good; default: they are gone, but for a line in the log." placeholder:"SUBJECT"`
	QueueMaxMessages int           `help:"Messages of the queue that a node has at a time." default:"1024"`
	QueueMaxBytes    int           `help:"Bytes of these; the largest message that the servers take must fit." default:"67108864"`
	QueueAckWait     time.Duration `help:"Time after which another node gets the messages of one that gives no sign of life." default:"15s"`
}

// queue maps the flags.
func (c *queueFlags) queue() (push.Queue, error) {
	out := push.Queue{
		Link: push.NATSLink{
			URLs: c.QueueURL, User: c.QueueUser, CredentialsFile: c.QueueCredentials, NKeyFile: c.QueueNKey,
			TLS: push.NATSTLS{CA: c.QueueTLSCA, Certificate: c.QueueTLSCert, Key: c.QueueTLSKey},
		},
		NATSQueue: push.NATSQueue{
			Stream: c.QueueStream, Consumer: c.QueueConsumer, Subject: c.QueueSubject, Start: c.QueueStart, DeadLetter: c.QueueDeadLetter,
			MaxMessages: c.QueueMaxMessages, MaxBytes: c.QueueMaxBytes, AckWait: c.QueueAckWait,
		},
	}
	var errs []error
	for _, secret := range []struct {
		flag, path string
		to         *string
	}{{"queue-password-file", c.QueuePassword, &out.Link.Password}, {"queue-token-file", c.QueueToken, &out.Link.Token}} {
		b, err := readSecret(secret.path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", secret.flag, err))
		}
		*secret.to = string(b)
	}
	return out, errors.Join(errs...)
}
