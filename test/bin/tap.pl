#!/usr/bin/env perl
# tap.pl --jobs N --timeout SECONDS --log DIRECTORY --count FILE [--more DIRECTORY] COMMAND TEST...
#
# Runs COMMAND TEST for every TEST, reads the TAP it prints, says a line per test file and shows what a failing one
# printed. A file that dies, prints no plan or another number of tests than planned fails, whatever its tests said.
# FILE gets "PASSED FAILED": assertions, plus one failure for each such file that has no failed assertion of its own.
# --more is where PostgreSQL::Test writes its regress_log files, which know why a test died.
use strict;
use warnings;
use File::Basename qw(basename);
use Getopt::Long;
use TAP::Parser;
use Time::HiRes qw(time);

my ($jobs, $timeout, $log_dir, $count_file, $more_dir) = (1, 600, undef, undef, undef);
GetOptions(
	'jobs=i'    => \$jobs,
	'timeout=i' => \$timeout,
	'log=s'     => \$log_dir,
	'count=s'   => \$count_file,
	'more=s'    => \$more_dir) or exit 2;
my ($command, @tests) = @ARGV;
die "usage: tap.pl --jobs N --timeout SECONDS --log DIRECTORY --count FILE COMMAND TEST...\n"
  unless defined $log_dir && defined $count_file && @tests;

$| = 1;
my ($width) = sort { $b <=> $a } map { length } @tests;
my ($passed, $failed) = (0, 0);
my %running;

sub spill
{
	my ($path, $text) = @_;
	open(my $file, '>', $path) or die "$path: $!\n";
	print $file $text;
	close($file) or die "$path: $!\n";
}

sub slurp
{
	my ($path) = @_;
	open(my $file, '<', $path) or return '';
	local $/;
	return <$file> // '';
}

sub tail
{
	my ($title, $text) = @_;
	my @lines = split /\n/, $text;
	return '' unless @lines;
	splice(@lines, 0, @lines - 30) if @lines > 30;
	return join("\n", "$title:", @lines) . "\n";
}

# In a child: run one test file, leave its output in .log and the verdict in .sum.
sub run
{
	my ($test, $base) = @_;
	my $start  = time;
	my $output = '';
	my $shown  = '';
	my $follow = 0;
	my $died   = '';
	my $parser = TAP::Parser->new(
		{ exec => [ 'timeout', '-k', 30, $timeout, $command, $test ], merge => 1 });
	my ($ok, $not_ok) = (0, 0);

	while (my $result = $parser->next)
	{
		my $line = $result->raw;
		$output .= "$line\n";
		if ($result->is_test)
		{
			$follow = !$result->is_ok;
			$result->is_ok ? $ok++ : $not_ok++;
		}
		$shown .= "$line\n" if $follow;
	}

	my @wrong = $parser->parse_errors;
	my $exit  = $parser->exit >> 8;
	push @wrong, "stopped after $timeout s" if $exit == 124 || $exit == 137;
	push @wrong, "killed by signal " . ($parser->wait & 127) if $parser->wait & 127;
	push @wrong, "exit status $exit" if $exit && !@wrong && !$not_ok;
	$died = join('; ', @wrong);

	# A file that did not come to its end shows how it ended.
	if (@wrong)
	{
		$shown .= tail('its last lines', $output);
		if (defined $more_dir)
		{
			my $path = "$more_dir/regress_log_" . basename($test, '.pl');
			$shown .= tail("the last lines of $path", slurp($path));
		}
	}
	spill("$base.log", $output);
	my $failures = $not_ok || (@wrong ? 1 : 0);
	spill("$base.sum", sprintf("%d %d %.1f %s\n%s", $ok, $failures, time - $start, $died, $shown));
}

sub report
{
	my ($test, $base) = @_;
	my $text = slurp("$base.sum");
	$text = "0 1 0.0 the runner died\n" unless $text =~ /^\d+ \d+ /;
	my ($head, $shown) = split /\n/, $text, 2;
	my ($ok, $not_ok, $seconds, $died) = split / /, $head, 4;
	$passed += $ok;
	$failed += $not_ok;
	printf "  %-*s  %s (%s s)\n", $width, $test,
	  $not_ok ? "FAILED $not_ok, passed $ok" : "$ok ok", $seconds;
	return unless $not_ok;
	print "      $died\n" if $died;
	print map { "      $_\n" } split /\n/, $shown;
}

sub reap
{
	my $pid = wait;
	return if $pid < 0;
	report(@{ delete $running{$pid} });
}

for my $test (@tests)
{
	my $base = "$log_dir/" . basename($test);
	reap() while keys %running >= $jobs;
	my $pid = fork;
	die "fork: $!\n" unless defined $pid;
	if (!$pid)
	{
		run($test, $base);
		exit 0;
	}
	$running{$pid} = [ $test, $base ];
}
reap() while %running;

spill($count_file, "$passed $failed\n");
