#!/usr/bin/perl
# The measuring half of boot.sh: RUNS, and `instant` for a golden checkpoint that is mapped
use strict;
use warnings;
use IO::Socket::UNIX;
use JSON::PP;
use POSIX ();
use Text::ParseWords 'shellwords';
use Time::HiRes qw(time usleep);

my ($runs, $instant) = @ARGV;
my $root = $ENV{FERMATA_ROOT};
my %t;

sub fermata { return scalar qx($ENV{FERMATA} @_ 2>/dev/null) }
sub size { return -s "$root/log" // 0 }

# Start a command; its pid.
sub start {
	my @command = @_;
	my $pid = fork() // die "fork: $!\n";
	return $pid if $pid;
	open(STDOUT, '>', '/dev/null');
	open(STDERR, '>', '/dev/null');
	exec @command or POSIX::_exit(127);
}

# Until the guest has said a whole line more.
sub tick {
	my ($was, $from) = @_;
	while (1) {
		if (size() > $was) {
			open(my $in, '<', "$root/log") or die;
			seek($in, $was, 0);
			local $/;
			return 1000 * (time - $from) if <$in> =~ /\n/;
		}
		die "the guest is silent\n" if time - $from > 60;
		usleep(200);
	}
}

sub by_hand {
	my ($tag, @argv) = @_;
	my ($was, $from) = (size(), time);
	unlink glob("$root/*.sock");
	my $pid = start(@argv);
	my $s;
	until ($s = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => "$root/3.sock")) {
		die "QEMU does not start\n" if time - $from > 60;
		usleep(200);
	}
	my $wait = sub {
		my ($pattern) = @_;
		while (my $line = <$s>) { return $line if $line =~ $pattern }
		die "QEMU is gone\n";
	};
	my $ask = sub { print $s shift, "\n"; $s->flush; $wait->(qr/"return"/) };
	$wait->(qr/QMP/);
	$ask->('{"execute":"qmp_capabilities"}');
	push @{ $t{'1 QEMU alone, to its monitor'} }, 1000 * (time - $from);
	if ($instant) {
		$ask->(qq({"execute":"migrate-incoming","arguments":{"uri":"exec:cat $root/stream"}}));
		usleep(200) until $ask->('{"execute":"query-status"}') !~ /inmigrate/;
	} else {
		$ask->(qq({"execute":"snapshot-load","arguments":{"job-id":"j","tag":"$tag","vmstate":"vda.0","devices":["vda.0"]}}));
		$wait->(qr/"status": "concluded"/);
	}
	$ask->('{"execute":"cont"}');
	push @{ $t{'2 by hand, to the first tick'} }, tick($was, $from);
	kill 'KILL', $pid;
	waitpid $pid, 0;
}

# Milliseconds of processor time that children have taken which were waited for (getrusage, RUSAGE_CHILDREN).
sub cpu {
	my $usage = "\0" x 144;
	syscall(98, -1, $usage) == 0 or die "getrusage: $!\n";
	my ($user, $user_us, $system, $system_us) = unpack 'q4', $usage;
	return 1000 * ($user + $system) + ($user_us + $system_us) / 1000;
}

sub by_fermata {
	my ($was, $from, $cpu) = (size(), time, cpu());
	my $pid = start($ENV{FERMATA}, 'boot', 'w');
	push @{ $t{'3 fermata boot, to the first tick'} }, tick($was, $from);
	waitpid $pid, 0;
	push @{ $t{'4 fermata boot, to its end'} }, 1000 * (time - $from);
	die "boot failed\n" if $?;
	push @{ $t{'5 fermata boot, its own processor time'} }, cpu() - $cpu;
	system("$ENV{FERMATA} destroy w >/dev/null");
}

# The stream of devices in a container, fermata-memory(5): behind the first page, with its length at byte 16.
sub stream {
	my ($from, $to) = @_;
	open(my $in, '<:raw', $from) or die "$from: $!\n";
	read($in, my $head, 4096) == 4096 or die "$from: too short\n";
	my $bytes = unpack('Q>', substr($head, 16, 8));
	read($in, my $stream, $bytes) == $bytes or die "$from: too short\n";
	open(my $out, '>:raw', $to) or die "$to: $!\n";
	print $out $stream;
}

# On the disks as they are now
sub argv {
	my ($info) = @_;
	my @argv = map { s/fd=([3-6])/path=$root\/$1.sock/r } shellwords(fermata('domdisplay-argv w') =~ s/\\\n/ /gr);
	return @argv if !$instant;
	s/,share=on,mem-path=.*/,share=off,mem-path=$info->{ram}/ for @argv;
	return ((map { /^-sandbox$/ .. /^on,/ ? () : $_ } @argv), '-incoming', 'defer');
}

my $info = decode_json(fermata('snapshot-info w golden --output json'));
stream($info->{memory}, "$root/stream") if $instant;
for (1 .. $runs) {
	by_hand($info->{disks}[0]{tag}, argv($info));
	by_fermata();
}
for (sort keys %t) {
	my @s = sort { $a <=> $b } @{ $t{$_} };
	printf "%-40s %7.1f (%.1f, %.1f)\n", substr($_, 2), $s[$#s / 2], $s[0], $s[-1];
	$t{$_} = $s[$#s / 2];
}
printf "%-40s %7.1f\n", 'what fermata adds to that by hand', $t{'3 fermata boot, to the first tick'} - $t{'2 by hand, to the first tick'};
