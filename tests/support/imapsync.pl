#!/usr/bin/perl
# A stand-in for imapsync, which is in no package source that the tests use. It copies one IMAP account into another with
# Mail::IMAPClient, the library that imapsync is built on, and does what imapsync does by default:
#   * messages are known by their fields Message-Id and Received. Of messages in a mailbox with equal ones one is copied
#     (here the first); messages with neither are left out, or with --addheader get "Message-Id: <UID@imapsync>" on top
#   * one message at a time: UID FETCH of the body, then APPEND with its flags, keywords and INTERNALDATE
#   * the library makes CRLF of each LF alone
# What imapsync sends beside that is left out: sizes of all mailboxes before and after, subscriptions, UIDNEXT, its own
# log. So it does no more than imapsync in anything, and is at least as fast. This was compared with imapsync 1.836.
# --most N ends without a farewell after N messages, as a migration that somebody stopped.
use strict;
use warnings;
use Getopt::Long;
use Mail::IMAPClient;

my ( $add_header, $most ) = ( 0, 0 );
my $usage = "usage: PASSWORD=... $0 [--addheader] [--most N] HOST PORT USER HOST PORT USER\n";
GetOptions( 'addheader' => \$add_header, 'most=i' => \$most ) && @ARGV == 6 or die $usage;

sub signed_in {
    my ( $host, $port, $user ) = @_;
    return Mail::IMAPClient->new(
        Server => $host, Port => $port, User => $user, Password => $ENV{PASSWORD}, Uid => 1, Peek => 1,
    ) || die "$user: $@\n";
}

# UID => the fields by which a message is known, "" if it has none
sub identities {
    my ( $imap, @uids ) = @_;
    return {} unless @uids;
    my $fields = $imap->parse_headers( \@uids, 'Message-Id', 'Received' ) || die $imap->LastError, "\n";
    my %known;
    for my $uid (@uids) {
        my $of = $fields->{$uid} || {};
        my @lines = map { my $name = $_; map { "$name: $_" } @{ $of->{$name} } } keys %$of;
        s/\s+/ /g, s/ $// for @lines;
        $known{$uid} = uc join "\n", sort @lines;
    }
    return \%known;
}

my ( $old, $new ) = ( signed_in( @ARGV[ 0 .. 2 ] ), signed_in( @ARGV[ 3 .. 5 ] ) );
my ( $old_separator, $new_separator ) = map { $_->separator } $old, $new;
my ( $old_prefix, $new_prefix ) = map { $_->namespace->[0][0][0] || '' } $old, $new;
my %there = map { $_ => 1 } $new->folders;
my $copied = 0;

for my $from ( sort $old->folders ) {
    $old->select($from) or next;    # a name alone
    ( my $to = $from ) =~ s/^\Q$old_prefix\E//;
    $to = join $new_separator, split /\Q$old_separator\E/, $to;
    $to = $new_prefix . $to unless uc $to eq 'INBOX';
    $there{$to} or $new->create($to) or die $new->LastError, "\n";
    $new->select($to) or die $new->LastError, "\n";
    my ($permanent) = map { /\[PERMANENTFLAGS \((.*?)\)/i ? $1 : () } $new->Results;
    my %taken = map { $_ => 1 } split ' ', $permanent || '';
    $taken{'\*'} = 1 unless defined $permanent;

    my @uids = sort { $a <=> $b } grep { defined } $old->messages;
    my @here = grep { defined } $new->messages;
    my $known = identities( $old, @uids );
    my %seen = map { $_ => 1 } values %{ identities( $new, @here ) };
    my $rows = @uids ? $old->fetch_hash( \@uids, 'FLAGS', 'INTERNALDATE', 'RFC822.SIZE' ) : {};
    $new->fetch_hash( \@here, 'FLAGS', 'INTERNALDATE', 'RFC822.SIZE' ) if @here;

    for my $uid (@uids) {
        my $added = $known->{$uid} eq '' && $add_header ? "Message-Id: <$uid\@imapsync>" : '';
        my $identity = $known->{$uid} || uc $added;
        next if $identity eq '' || $seen{$identity}++;
        exit 0 if $most && $copied == $most;
        my $text = '';
        $old->message_to_file( \$text, $uid ) or die $old->LastError, "\n";
        $text = "$added\r\n$text" if $added;
        my @flags = grep { !/^\\Recent$/i && ( $taken{'\*'} || $taken{$_} ) } split ' ', $rows->{$uid}{FLAGS};
        $new->append_string( $to, $text, "@flags", $rows->{$uid}{INTERNALDATE} ) or die $new->LastError, "\n";
        $copied++;
    }
}
$_->logout for $old, $new;
