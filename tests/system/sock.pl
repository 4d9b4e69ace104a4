#!/usr/bin/perl
# Talk to a unix socket.
#
#	sock.pl PATH send TEXT		write TEXT and leave when it has been read
#	sock.pl PATH qmp COMMAND...	send each command (a name, or a JSON object) and print each answer
#	sock.pl PATH raw SECONDS TEXT	write TEXT as it is, print what comes within SECONDS
use strict;
use warnings;
use IO::Select;
use IO::Socket::UNIX;
use Time::HiRes qw(sleep time);

use constant SIOCOUTQ => 0x5411;

my ($path, $what, @rest) = @ARGV;
my $s = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $path) or die "cannot connect to $path: $!\n";
my $buffer = '';

sub line {
	my $until = time + 60;
	while ((my $end = index($buffer, "\n")) < 0) {
		IO::Select->new($s)->can_read($until - time) or die "no answer from $path\n";
		sysread($s, $buffer, 65536, length $buffer) or die "$path has closed\n";
	}
	my ($l, $more) = split /\n/, $buffer, 2;
	$buffer = $more;
	return $l;
}

if ($what eq 'send') {
	# A connection that closes may take with it what the other side has not read by then.
	my $until = time + 60;
	my $unread = pack 'i', 1;
	syswrite($s, $rest[0]);
	while (unpack 'i', $unread) {
		ioctl($s, SIOCOUTQ, $unread) or die "cannot tell what $path has read: $!\n";
		die "$path does not read\n" if time > $until;
		sleep 0.005;
	}
} elsif ($what eq 'raw') {
	my $until = time + $rest[0];
	syswrite($s, $rest[1]);
	while ($until > time and IO::Select->new($s)->can_read($until - time)) {
		sysread($s, $buffer, 65536) or last;
		print $buffer;
	}
} elsif ($what eq 'qmp') {
	line();
	for my $c ('qmp_capabilities', @rest) {
		syswrite($s, $c =~ /^\{/ ? "$c\n" : qq({"execute":"$c"}\n));
		my $answer = line();
		$answer = line() while $answer =~ /"event":/;
		print "$answer\n" unless $c eq 'qmp_capabilities';
	}
} else {
	die "sock.pl: what is '$what'?\n";
}
